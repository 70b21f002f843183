"""The pictures of docs/: `python tests/kit/pictures.py`. Seeds, serves, and looks with Chromium."""

import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from dashboard_kit import snapshot
from PIL import Image
from platform_kit import Running, platform, stop, wait_for
from playwright.sync_api import sync_playwright
from seeded import TASKS, make_seeded

from aarlab.core.holding import noted

IMAGES = Path(__file__).resolve().parents[2] / "docs" / "images"
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"]
DESK, PHONE = {"width": 1280, "height": 860}, {"width": 390, "height": 844}
PORT = 8478
# No picture shows where it was made.
WITHOUT_PATHS = """folder => {
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (walk.nextNode()) {
        walk.currentNode.data = walk.currentNode.data.replaceAll(folder, "~")
    }
}"""


def main() -> None:
    with tempfile.TemporaryDirectory(dir="/var/tmp") as folder:
        task, run = make_seeded(Path(folder), datetime.now(UTC))
        names = [word for name in TASKS for word in ("--task", name)]
        with sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=shutil.which("chromium"), args=FLAGS)
            with (
                noted(run.holder, "run"),  # as a process that runs the campaign does
                platform(task, run, *names, "--port", str(PORT)) as running,
            ):
                take(browser, running)
            lobby(browser, Path(folder))
            browser.close()


def take(browser: Any, running: Running) -> None:
    cheat, honest = snapshot(running, "group_consensus"), snapshot(running, "elicited_prior_em")
    wanted = {
        "campaign": ("/", 1180), "leaderboard": ("/leaderboard?task=math", 900),
        "method": (f"/methods/{cheat}", 1420), "audits": ("/audits", 900),
        "diff": (f"/methods/{honest}#code", 860),
        "transcript": ("/transcripts/swift?q=hidden+labels", 900),
        "log": ("/log?kind=verdict", 620), "aar": ("/aars/heron", 900),
    }  # fmt: skip
    page = log_in(browser, running, DESK, "light")
    for name, (path, height) in wanted.items():
        page.set_viewport_size({**DESK, "height": height})
        shoot(page, running, path, name)
    shoot(log_in(browser, running, {**DESK, "height": 1180}, "dark"), running, "/", "campaign-dark")
    phone = log_in(browser, running, PHONE, "light")
    parts = [shoot(phone, running, wanted[name][0], f"phone-{name}") for name in wanted][:4]
    beside(parts, IMAGES / "dashboard-phone.png")


def lobby(browser: Any, folder: Path) -> None:
    """The campaigns of a folder, and a new one with something to put right."""
    command = [sys.executable, "-m", "aarlab.cli", "serve", "--runs", str(folder / "runs")]
    process = subprocess.Popen(
        [*command, "--port", str(PORT + 1)],
        env={**os.environ, "AARLAB_HOME": str(folder / "data")},
        stdout=subprocess.DEVNULL,
    )
    token = folder / "runs" / ".lobby" / "operator"
    wait_for(token.exists, 120)
    time.sleep(2)
    page = browser.new_context(viewport={**DESK, "height": 760}).new_page()
    page.goto(f"http://127.0.0.1:{PORT + 1}/")
    page.fill("#token", token.read_text().strip())
    page.fill("#name", "Ada")
    page.click("button.main")
    page.goto(f"http://127.0.0.1:{PORT + 1}/new")
    page.fill(
        "#spec", page.input_value("#spec").replace("researcher: random", "researcher: rondom")
    )
    page.click("text=check, and estimate")
    page.screenshot(path=IMAGES / "dashboard-new.png")
    small(IMAGES / "dashboard-new.png")
    stop(process)


def log_in(browser: Any, running: Running, size: dict[str, int], scheme: str) -> Any:
    page = browser.new_context(viewport=size, color_scheme=scheme).new_page()
    page.goto(f"http://127.0.0.1:{PORT}/login")
    page.fill("#token", running.operator_token)
    page.fill("#name", "Ada")
    page.click("button.main")
    return page


def shoot(page: Any, running: Running, path: str, name: str) -> Path:
    page.goto(f"http://127.0.0.1:{PORT}{path}")
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(3000 if path == "/" else 400)  # the exact scores come in
    page.evaluate(WITHOUT_PATHS, str(running.run.path.parents[1]))
    kept = IMAGES / f"dashboard-{name}.png"
    page.screenshot(path=kept)
    small(kept)
    return kept


def small(path: Path) -> None:
    Image.open(path).convert("RGB").quantize(200, dither=Image.Dither.NONE).save(
        path, optimize=True
    )


def beside(paths: list[Path], out: Path) -> None:
    """Several phones in one picture."""
    shots = [Image.open(path).convert("RGB") for path in paths]
    gap, width = 24, shots[0].width
    sheet = Image.new("RGB", (len(shots) * (width + gap) - gap, shots[0].height), "#8a95a1")
    for place, shot in enumerate(shots):
        sheet.paste(shot, (place * (width + gap), 0))
    sheet.save(out)
    small(out)
    for path in IMAGES.glob("dashboard-phone-*.png"):
        path.unlink()


if __name__ == "__main__":
    sys.exit(main())
