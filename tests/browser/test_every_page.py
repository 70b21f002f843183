"""Every page in a real browser: usable by all, no wider than the screen, no fault in a script.

No page asks another server for anything.
"""

import hashlib

import axe
import pytest
from dashboard_kit import snapshot
from eyes import log_in
from platform_kit import Running

SLOW = pytest.mark.slow
LOOKS = [
    pytest.param(1280, "light"),
    pytest.param(1280, "dark", marks=SLOW),
    pytest.param(390, "light", marks=SLOW),
]
PAGES = {
    "campaign": "/",
    "leaderboard": "/leaderboard",
    "audits": "/audits?state=all",
    "forum": "/forum",
    "transcripts": "/transcripts",
    "transcript": "/transcripts/swift",
    "found": "/transcripts/swift?q=flip",
    "log": "/log",
    "tasks": "/tasks",
    "shares": "/shares",
    "aar": "/aars/heron",
    "error": "/methods/none",
    "login": "/login",
}


def all_paths(served: Running, page) -> dict[str, str]:
    thread = page.request.get(f"{served.url}/forum?format=json").json()["findings"][-1]["id"]
    cheat, good = snapshot(served, "group_consensus"), snapshot(served, "elicited_prior_em")
    more = {
        "thread": f"/forum/{thread}",
        "cheat": f"/methods/{cheat}",
        "method": f"/methods/{good}",
    }
    return {**PAGES, **more}


@pytest.mark.gate
@pytest.mark.parametrize("width, scheme", LOOKS)
def test_every_page_is_usable_and_asks_nothing_from_elsewhere(
    chromium, served: Running, width: int, scheme: str
) -> None:
    looked_at(chromium, served, width, scheme, all_paths)


def test_the_pages_most_looked_at_are_usable_too(chromium, served: Running) -> None:
    def few(served: Running, page) -> dict[str, str]:
        return {"campaign": "/", "method": f"/methods/{snapshot(served, 'elicited_prior_em')}"}

    looked_at(chromium, served, 1280, "light", few)


def looked_at(chromium, served: Running, width: int, scheme: str, paths) -> None:
    look = {"viewport": {"width": width, "height": 900}, "color_scheme": scheme}
    page = log_in(chromium, served, **look)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    for name, path in paths(served, page).items():
        page.goto(f"{served.url}{path}")
        page.wait_for_load_state("networkidle")
        assert axe.faults(page) == [], name
        assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    expected = [text for text in page.eyes.seen if "404" in text]
    assert page.eyes.seen == expected and len(expected) == int(paths is all_paths)
    assert asked and all(url.startswith(served.url) for url in asked)


def test_axe_finds_what_is_wrong_and_is_as_published(chromium) -> None:
    assert hashlib.sha256(axe.AXE.encode()).hexdigest() == axe.SHA256
    page = chromium.new_page()
    page.set_content("<html><body><main><img src=x><input></main></body></html>")
    assert {fault.split(":")[0] for fault in axe.faults(page)} >= {"image-alt", "label"}
