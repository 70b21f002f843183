"""A real Chromium, the seeded campaign on a TCP port, and eyes that see scripts and faults."""

import shutil
import socket
from pathlib import Path
from typing import Any

import pytest
from platform_kit import Running, TinyTask, platform
from seeded import TASKS

from aarlab.core.layout import RunDir

CHROMIUM = shutil.which("chromium")
FLAGS = [
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
    "--js-flags=--expose-gc",
]
NAMED = [word for task in TASKS for word in ("--task", task)]
HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None:
                item.add_marker(pytest.mark.skip(reason="needs Chromium on the path"))


@pytest.fixture
def chromium():
    """One a test: Playwright's loop must not outlive it, other tests run loops of their own."""
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


@pytest.fixture
def served(seeded: tuple[TinyTask, RunDir], tmp_path: Path):
    task, run = seeded
    shutil.copytree(run.path, tmp_path / "run")
    port = free_port()
    with platform(task, RunDir(tmp_path / "run"), *NAMED, "--port", str(port)) as running:
        running.url = f"http://127.0.0.1:{port}"
        yield running


class Eyes:
    """What a page should never do: fail in a script, break the policy, open a dialog."""

    def __init__(self, page: Any) -> None:
        self.seen: list[str] = []
        page.on("console", self._hear)
        page.on("pageerror", lambda error: self.seen.append(str(error)))
        page.on("dialog", lambda dialog: self.seen.append("a dialog"))

    def _hear(self, message: Any) -> None:
        if message.type == "error":
            self.seen.append(f"{message.text} {message.location['url']}")


def log_in(browser: Any, running: Running, name: str = "Ada", **options: Any) -> Any:
    """A page of a new person, logged in."""
    page = browser.new_context(**options).new_page()
    page.eyes = Eyes(page)
    page.goto(f"{running.url}/login")
    page.fill("#token", running.operator_token)
    page.fill("#name", name)
    page.click("text=Log in >> nth=-1")
    page.wait_for_selector("nav[aria-label=Pages]")
    return page
