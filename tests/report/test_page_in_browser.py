"""The page in a real Chromium: no request, no script error, nothing wider than the screen."""

import shutil
from pathlib import Path

import pytest

from aarlab.core.wire import CampaignExport
from aarlab.report import load_export, write_report
from aarlab.report.compare import write_arms

CHROMIUM = shutil.which("chromium")
FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path")
def test_page_fits_phone_and_desk_and_asks_for_nothing(
    export: CampaignExport, tmp_path: Path
) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    page_file = write_report(export, tmp_path).page
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for width, scheme in ((1280, "light"), (390, "dark"), (320, "light")):
            page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
            seen: list[str] = []
            page.on("request", lambda request, seen=seen: seen.append(request.url))
            page.on("console", lambda message, seen=seen: seen.append(message.text))
            page.on("dialog", lambda dialog, seen=seen: seen.append("a dialog: script ran"))
            page.goto(page_file.as_uri())
            assert seen == [page_file.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= width
            shown = page.locator("figure svg:visible").count()
            assert shown == 6
        browser.close()


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium on the path")
@pytest.mark.gate
def test_arms_and_comparison_fit_ask_for_nothing_and_print(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api")
    given = load_export(Path(__file__).parent / "golden" / "export.json")
    write_arms(given, tmp_path)
    pages = {write_report(given, tmp_path).page: 10, tmp_path / "comparison.html": 1}
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for path, figures in pages.items():
            page = browser.new_page(viewport={"width": 390, "height": 900})
            seen: list[str] = []
            page.on("request", lambda request, seen=seen: seen.append(request.url))
            page.on("console", lambda message, seen=seen: seen.append(message.text))
            page.goto(path.as_uri())
            assert seen == [path.as_uri()]
            assert page.evaluate("document.documentElement.scrollWidth") <= 390
            shown = page.locator("figure svg:visible").count()
            assert shown == figures
            assert page.locator("figure [role=img]:not([aria-label])").count() == 0
            page.emulate_media(media="print")
            assert not page.locator(".skip:visible").count()
        browser.close()
