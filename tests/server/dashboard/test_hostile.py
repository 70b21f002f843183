"""What AARs wrote is quoted on every page; nothing of it becomes markup."""

import base64
import json
from html.parser import HTMLParser

import pytest
from dashboard_kit import hostile_campaign
from platform_kit import Running, TinyTask, platform
from seats import operator_seat

from aarlab.core.layout import RunDir


class Reader(HTMLParser):
    """Collects what a browser would run, load or follow."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.bad: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        given = dict(attributes)
        own = tag == "script" and (given.get("src") or "").startswith("/static/")
        if tag in ("script", "img", "iframe", "object", "style", "base") and not own:
            self.bad.append(tag)
        for name, value in given.items():
            address = (value or "").strip().lower()
            if (
                name.startswith("on")
                or name == "style"
                or address.startswith(("javascript", "data:"))
            ):
                self.bad.append(f"{tag} {name}={value}")


@pytest.fixture(scope="module")
def hostile(seeded: tuple[TinyTask, RunDir], tmp_path_factory: pytest.TempPathFactory):
    task, _ = seeded
    with platform(task, RunDir(tmp_path_factory.mktemp("h") / "run"), "--task", "math") as running:
        running.paths = hostile_campaign(running)
        yield running


def test_every_page_quotes_what_aars_wrote(hostile: Running) -> None:
    with operator_seat(hostile, "<b>Ada</b>") as client:
        for path in hostile.paths:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert Reader(answer.text).bad == [], path
        thread = next(path for path in hostile.paths if path.startswith("/forum/fnd"))
        assert "<strong>bold</strong>" in client.get(thread).text


def test_the_reader_sees_what_would_run() -> None:
    page = "<p onclick=x><script>x</script><a href=' javascript:x'>y</a>&lt;img onerror=x&gt;"
    assert len(Reader(page).bad) == 3


def test_no_error_page_repeats_markup(hostile: Running) -> None:
    with operator_seat(hostile) as client:
        for path in ("/methods/<script>x</script>", "/forum/<img src=x>", "/aars/<svg onload=x>"):
            answer = client.get(path)
            assert answer.status_code == 404 and Reader(answer.text).bad == []
        assert Reader(client.get("/log?kind=<script>x</script>").text).bad == []


def test_a_base_that_is_no_folder_of_a_lobby_is_ignored(hostile: Running) -> None:
    with operator_seat(hostile) as client:
        for base in ("//evil.example", '/c/x" onload="y', "/c/../x"):
            page = client.get("/", headers={"X-Aarlab-Base": base}).text
            assert "evil" not in page and "onload" not in page and 'href="/leaderboard"' in page
        assert 'href="/c/x/leaderboard"' in client.get("/", headers={"X-Aarlab-Base": "/c/x"}).text


def test_the_kit_writes_what_it_says(hostile: Running) -> None:
    """The hostile texts are really in the store."""
    with hostile.operator() as operator:
        export = operator.export()
    text = export.model_dump_json()
    assert "<script>" in text and "onerror" in text
    files = [f.path for s in export.snapshots for f in operator_files(hostile, s.id)]
    assert any("<img" in path for path in files)


def operator_files(running: Running, snapshot: str):
    with running.operator() as operator:
        content = operator.snapshot(snapshot)
    assert all(base64.b64decode(f.content_b64) is not None for f in content.files)
    assert json.dumps([f.path for f in content.files])
    return content.files
