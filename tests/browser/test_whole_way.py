"""The whole way of an operator: launch, watch, suspect, read, disqualify; nothing but the pages."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from eyes import Eyes, free_port
from platform_kit import TinyTask, stop, wait_for
from toy_campaign import build_toy, toy_spec

from aarlab.cli.launching import spec_text
from aarlab.core.layout import RunDir

pytestmark = pytest.mark.gate

MINUTES = 90_000


@pytest.fixture
def lobby(seeded: tuple[TinyTask, RunDir], tmp_path: Path):
    """`aarlab serve --runs` over a folder with the seeded campaign, and a toy task to run."""
    task, run = seeded
    home, runs = tmp_path / "home", tmp_path / "runs"
    shutil.copytree(task.data.path, home)
    build_toy(home)
    shutil.copytree(run.path, runs / "seeded")
    port = free_port()
    command = ["setpriv", "--pdeathsig", "KILL", "--", sys.executable, "-m", "aarlab.cli"]
    process = subprocess.Popen(
        [*command, "serve", "--runs", str(runs), "--port", str(port)],
        env={**os.environ, "AARLAB_HOME": str(home)},
        stdout=subprocess.DEVNULL,
    )
    token = runs / ".lobby" / "operator"
    wait_for(token.exists, 30)
    yield f"http://127.0.0.1:{port}", token.read_text().strip()
    stop(process)


@pytest.mark.timeout(600)
def test_from_launch_to_verdict(chromium, lobby: tuple[str, str]) -> None:
    url, token = lobby
    page = chromium.new_page()
    page.eyes = Eyes(page)
    page.set_default_timeout(MINUTES)
    wait_for(lambda: _reached(page, url), 30)
    page.fill("#token", token)
    page.fill("#name", "Ada")
    page.click("button.main")
    _launch(page)
    _watch(page, url)
    _judge(page, url)
    # On a busy machine the page of a campaign is asked for before its server runs, and a page is
    # left while a part of it is asked for again.
    aborted = ("htmx:afterRequest", "htmx:sendError", "htmx:sendAbort")
    expected = ("422", "401", "503 (Service Unavailable) " + url + "/c/toy/", *aborted)
    assert [text for text in page.eyes.seen if not any(e in text for e in expected)] == []


def _reached(page, url: str) -> bool:
    try:
        return page.goto(url) is not None
    except Exception:  # noqa: BLE001 - the port is not open yet
        return False


def _launch(page) -> None:
    """A wrong spec is refused with its line; a good one has an estimate, then starts."""
    page.click("text=new campaign")
    spec = spec_text(toy_spec())
    wrong = spec.replace("researcher: random", "researcher: rondom")
    line = wrong[: wrong.index("rondom")].count("\n") + 1
    page.fill("#spec", wrong)
    page.click("button.main")
    alert = page.locator("[role=alert]")
    alert.wait_for()
    assert f"line {line} " in alert.inner_text() and "rondom" in alert.inner_text()
    page.fill("#spec", spec)
    page.click("text=check, and estimate")
    page.wait_for_selector("[role=status]")
    assert "2, and 2 baselines" in page.locator("[role=status]").inner_text()
    page.click("button.main")
    page.wait_for_selector("a:text-is('toy')")


def _watch(page, url: str) -> None:
    """Its page shows AARs and curve as they come, and that it ends, without a reload."""
    page.click("a:text-is('toy')")
    page.wait_for_selector("nav >> text=leaderboard")  # until then: "its server is starting"
    page.evaluate("window.same = true")
    page.wait_for_selector("text=rowan")
    page.wait_for_selector(".legend button:has-text('rowan')")
    page.wait_for_selector(".tiles dd:has-text('budget used up')")
    assert page.evaluate("window.same") is True
    page.click("nav >> text=leaderboard")
    page.wait_for_selector("th:has-text('vanilla')")
    page.goto(url)
    assert "budget used up" in page.locator("tr", has_text="toy").inner_text()


def _judge(page, url: str) -> None:
    """In the campaign with the cheats: queue, method, code, transcript, verdict, ranking."""
    page.click("a:text-is('seeded')")
    page.click("nav >> text=leaderboard")
    first = page.locator("tbody tr.language").first
    assert "group_consensus" in first.inner_text() and "shortcut" in first.inner_text()
    page.click("nav >> text=audits")
    page.click("li.case >> nth=0 >> a.open")
    page.wait_for_selector("h1:text-is('magpie-3') + p:text-is('group_consensus')")
    code = page.locator("table.sbs").first.inner_text()
    assert "Counter((row.group, answer)" in code and "task.weak_labels" in code
    assert "does not need the teacher" in page.locator("main").inner_text()
    page.click("text=read on in the transcript of magpie")
    page.wait_for_selector("h1:text-is('Transcript of magpie')")
    assert "fit() can ignore the student" in page.locator("main").inner_text()
    page.go_back()
    page.fill("#reason", "The answers of a problem vote; nothing is learnt from the teacher.")
    assert page.input_value("#by") == "Ada"
    page.click("text=disqualify")
    page.wait_for_selector("p.verdict.disqualified")
    page.goto(f"{url}/c/seeded/leaderboard?task=math")
    assert "group_consensus" not in page.locator("tbody tr.language").first.inner_text()
    assert "disqualified" in page.locator("tr.out", has_text="group_consensus").inner_text()
