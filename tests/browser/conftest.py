"""A real Chromium, the seeded campaign on a TCP port, and eyes that see scripts and faults."""

import shutil
from pathlib import Path

import pytest
from eyes import free_port
from platform_kit import TinyTask, platform
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


@pytest.fixture
def served(seeded: tuple[TinyTask, RunDir], tmp_path: Path):
    task, run = seeded
    shutil.copytree(run.path, tmp_path / "run")
    port = free_port()
    with platform(task, RunDir(tmp_path / "run"), *NAMED, "--port", str(port)) as running:
        running.url = f"http://127.0.0.1:{port}"
        yield running
