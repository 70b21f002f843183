"""Many campaigns behind one door: who gets in, what is forwarded, what a wrong spec says."""

import html
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from urllib.parse import quote

import pytest
from platform_kit import TinyTask, start, stop
from seats import HTML, asked_again, field
from starlette.testclient import TestClient

from aarlab.campaign.checking import estimate, estimate_rows
from aarlab.campaign.reading import line_of
from aarlab.cli.launching import check_text, commands, spec_text
from aarlab.core.layout import DataRoot, RunDir
from aarlab.server.lobby.app import create_lobby
from aarlab.server.lobby.processes import Checked, Commands, Fault

STARTED: list[str] = []


def fake_commands(run: Path) -> Commands:
    """Checks nothing but the name; a campaign is a process that writes a line and ends."""

    def check(text: str) -> Checked:
        if "name: " not in text:
            return Checked((Fault(2, "no <script>name</script>"),))
        return Checked(name=text.split("name: ")[1].split()[0], estimate=(("time", "1 hour"),))

    def argv(*words: object) -> list[str]:
        STARTED.append(" ".join(map(str, words)))
        return ["sh", "-c", "echo it said this >&2; umask"]

    return Commands({"small": "name: small\n"}, check, argv, argv, lambda _: ["sleep", "60"])


IGNORED = shutil.ignore_patterns("socket", "*.lock", "server.log")
TASK: list[TinyTask] = []


@contextmanager
def served(run: RunDir) -> Iterator[None]:
    running = start(TASK[0], run, "--task", "math", "--task", "chat")
    try:
        yield
    finally:
        stop(running.process)


@pytest.fixture(scope="module")
def lobby(seeded: tuple[TinyTask, RunDir], tmp_path_factory: pytest.TempPathFactory):
    """A folder with one campaign, whose server runs, and things that are none."""
    task, run = seeded
    runs = tmp_path_factory.mktemp("lobby") / "runs"
    shutil.copytree(run.path, runs / "seeded")
    (runs / "empty").mkdir()
    (runs / "link").symlink_to(run.path)
    running = start(replace(task), RunDir(runs / "seeded"), "--task", "math", "--task", "chat")
    STARTED.clear()
    TASK[:] = [task]
    with TestClient(create_lobby(runs, fake_commands(run.path)), follow_redirects=False) as client:
        client.headers.update(HTML)
        client.runs = runs
        yield client
    stop(running.process)


@contextmanager
def session(lobby: TestClient, name: str = "Ada") -> Iterator[TestClient]:
    token = (lobby.runs / ".lobby" / "operator").read_text().strip()
    assert lobby.post("/login", data={"token": token, "name": name}).status_code == 303
    yield lobby
    lobby.cookies.clear()


def test_without_the_lobbys_token_there_is_nothing(lobby: TestClient) -> None:
    for path in ("/", "/new", "/c/seeded/", "/c/seeded/leaderboard", "/c/seeded/transcripts/swift"):
        answer = lobby.get(path)
        assert answer.status_code == 401 and "magpie" not in answer.text, path
    assert lobby.post("/new", data={"spec": "name: x"}).status_code == 403
    assert lobby.post("/login", data={"token": "wrong"}).status_code == 403
    assert not STARTED
    mode = (lobby.runs / ".lobby" / "operator").stat().st_mode & 0o777
    assert mode == 0o600


def test_campaigns_are_listed_and_opened_with_one_login(lobby: TestClient) -> None:
    with session(lobby):
        found = lobby.get("/?format=json").json()["campaigns"]
        assert [c["name"] for c in found if c["name"] == "seeded"] == ["seeded"]
        assert not {"empty", "link", ".lobby"} & {c["name"] for c in found}
        page = lobby.get("/c/seeded/")
        assert page.status_code == 200 and 'href="/c/seeded/leaderboard"' in page.text
        assert "<span>Ada</span>" in page.text and 'href="/"' in page.text
        assert "script-src 'self'" in page.headers["content-security-policy"]
        board = lobby.get("/c/seeded/leaderboard?task=math&format=json").json()["entries"]
        story = lobby.get(f"/c/seeded/methods/{board[0]['snapshot']}").text
        form = {name: field(story, name) for name in ("form", "key", "seen")}
        given = {**form, "decision": "rework", "reason": "why?", "by": "Ada"}
        answer = lobby.post(f"/c/seeded/methods/{board[0]['snapshot']}/verdict", data=given)
        assert answer.headers["location"] == f"/c/seeded/methods/{board[0]['snapshot']}"
        assert asked_again(lobby, "/c/seeded/live/campaign").content == b""


@pytest.mark.parametrize("name", ["mein Lauf ä", "50 % #2? ü+&'\"<b>"])
def test_any_folder_name_is_listed_linked_and_opened(lobby: TestClient, name: str) -> None:
    """A folder's name is quoted in every link, redirect, form and header."""
    quoted = quote(name, safe="")
    shutil.copytree(lobby.runs / "seeded", lobby.runs / name, ignore=IGNORED)
    with session(lobby), served(RunDir(lobby.runs / name)):
        page = lobby.get("/").text
        assert f'href="/c/{quoted}/"' in page and name in html.unescape(page)
        assert "<b>" not in page
        moved = lobby.get(f"/c/{quoted}")
        assert (moved.status_code, moved.headers["location"]) == (303, f"/c/{quoted}/")
        front = lobby.get(f"/c/{quoted}/")
        assert front.status_code == 200 and f'href="/c/{quoted}/leaderboard"' in front.text
        board = lobby.get(f"/c/{quoted}/leaderboard?task=math&format=json").json()["entries"]
        story = lobby.get(f"/c/{quoted}/methods/{board[0]['snapshot']}").text
        given = {one: field(story, one) for one in ("form", "key", "seen")}
        given |= {"decision": "rework", "reason": "why?", "by": "Ada"}
        answer = lobby.post(f"/c/{quoted}/methods/{board[0]['snapshot']}/verdict", data=given)
        assert answer.headers["location"] == f"/c/{quoted}/methods/{board[0]['snapshot']}"
        form = {"form": field(lobby.get("/new").text, "form")}
        assert lobby.post(f"/resume/{quoted}", data=form).status_code == 303
        assert STARTED.pop() == str(lobby.runs / name)
    shutil.rmtree(lobby.runs / name)


def test_the_api_of_a_campaign_is_not_reached(lobby: TestClient) -> None:
    with session(lobby):
        for path in (
            "v1/me",
            "v1/operator/export",
            "mcp",
            "health",
            "..%2f..%2fetc",
            "v1%2fme",
            "/v1/me",
        ):
            assert lobby.get(f"/c/seeded/{path}").status_code in (404, 401, 403), path
        for name in ("none", "link", ".lobby"):
            assert lobby.get(f"/c/{name}/").status_code in (303, 404), name


def test_a_share_link_opens_its_campaign_only(lobby: TestClient) -> None:
    with session(lobby):
        form = {"form": field(lobby.get("/c/seeded/shares").text, "form"), "days": "2"}
        link = lobby.post("/c/seeded/shares", data=form).text.split('id="link">')[1].split("<")[0]
    assert link.startswith("/c/seeded/share/")
    opened = lobby.get(link)
    assert (opened.status_code, opened.headers["location"]) == (303, "/c/seeded/")
    page = lobby.get("/c/seeded/leaderboard")
    assert page.status_code == 200 and "read-only share" in page.text
    assert lobby.get("/c/seeded/audits").status_code == 403
    assert lobby.get("/").status_code == 401 and lobby.get("/new").status_code == 401
    lobby.cookies.clear()


def test_a_new_campaign_is_checked_then_started_once(lobby: TestClient) -> None:
    with session(lobby):
        page = lobby.get("/new?preset=small").text
        assert "name: small" in page
        form = {"form": field(page, "form")}
        wrong = lobby.post("/new", data={**form, "spec": "a: 1\nb: 2", "action": "start"})
        assert wrong.status_code == 422 and "line 2 <code>b: 2</code>" in wrong.text
        assert "<script>name" not in wrong.text
        good = {**form, "spec": "name: fresh\n"}
        checked = lobby.post("/new", data={**good, "action": "check"})
        assert checked.status_code == 200 and "1 hour" in checked.text and not STARTED
        assert lobby.post("/new", data={**good, "form": "0", "action": "start"}).status_code == 403
        assert lobby.post("/new", data={**good, "action": "start"}).status_code == 303
        assert len(STARTED) == 1 and "launch.yaml" in STARTED[0]
        assert lobby.post("/new", data={**good, "action": "start"}).status_code == 409
        assert lobby.post("/resume/fresh", data=form).status_code == 303 and len(STARTED) == 2
        log = lobby.runs / "fresh" / "campaign.log"
        while log.read_text().count("\n") < 4:
            pass
        assert "077" not in log.read_text()  # AARs of other users must pass through the folder
        said = lobby.get("/?format=json").json()["campaigns"]
        assert next(c for c in said if c["name"] == "fresh")["state"] == "new"


def test_a_campaign_whose_server_does_not_come_says_so(
    lobby: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarlab.server.lobby.processes.START_S", 0.3)
    run = RunDir(lobby.runs / "quiet")
    run.path.mkdir()
    run.spec.write_text('{"campaign": {}}')
    with session(lobby):
        answer = lobby.get("/c/quiet/")
        assert answer.status_code == 503 and "is starting" in answer.text


def test_presets_are_specs_that_read_back() -> None:
    for name, text in commands().presets.items():
        assert f"name: {name}" in text
        assert not [f for f in check_text(text).faults if not f.message.startswith("to do")]


@pytest.mark.parametrize(
    "text, line, said",
    [
        ("name: x\ntasks: [math\n", 3, "not YAML"),
        ("name: X!\ntasks: [math]\naars: []\n", 1, "name"),
        ("name: x\ntasks: [math]\nlimits:\n  hours: many\n", 4, "limits.hours"),
        ("name: x\ntasks: [math]\naars:\n- name: a\n  researcher: fixed\n", 4, "methods"),
        ("- a list\n", 0, ""),
        ("", 0, ""),
    ],
)
def test_a_fault_of_a_spec_is_named_with_its_line(text: str, line: int, said: str) -> None:
    faults = check_text(text).faults
    assert any(f.line == line and said in f.message for f in faults), faults


def test_a_place_that_the_text_lacks_has_the_line_above_it() -> None:
    import yaml

    node = yaml.compose("a:\n  - b: 1\n    c: 2\n")
    assert line_of(node, ("a", 0, "c")) == 3
    assert line_of(node, ("a", 0, "missing")) == 2
    assert line_of(node, ("missing",)) == 0


def test_the_estimate_is_a_bound() -> None:
    from toy_campaign import toy_spec

    told = dict(estimate_rows(toy_spec(), estimate(toy_spec())))
    assert told["submissions"] == "8 at most" and told["research hours"] == "no limit"
    assert told["dollars"].startswith("$0 at most") and told["re-runs"].startswith("4 of 4 seeds")
    two = toy_spec().model_copy(update={"tasks": ["gauss", "gauss-two"]})
    told = dict(estimate_rows(two, estimate(two)))
    assert told["submissions"] == "10 at most", "baselines run on every task, budgets are per AAR"
    assert told["re-runs"].startswith("12 of 4 seeds")


def test_the_dashboard_and_the_command_show_the_same_estimate(
    toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    from toy_campaign import toy_spec

    from aarlab.cli.campaign import check

    monkeypatch.setenv("AARLAB_HOME", str(toy_root.path))
    text = spec_text(toy_spec())
    checked = check_text(text)
    assert not checked.faults and checked.name == "toy"
    (tmp_path / "toy.yaml").write_text(text)
    assert check(str(tmp_path / "toy.yaml")) == 0
    printed = capsys.readouterr().out
    for what, amount in checked.estimate:
        assert f"{what}:" in printed and amount in printed


def test_the_line_of_a_secret_is_not_shown(lobby: TestClient, tmp_path: Path) -> None:
    """With the real check: nothing is written, and the value stands nowhere but in the form."""
    secret = "sk-" + "a1b2c3d4" * 4
    spec = f"name: leaky\nlanguage: {{model: openai/gpt-5, model_args: {{api_key: {secret}}}}}\n"
    runs = tmp_path / "runs"
    with (
        TestClient(create_lobby(runs, commands()), follow_redirects=False) as client,
    ):
        client.headers.update(HTML)
        client.runs = runs
        with session(client):
            form = {"form": field(client.get("/new").text, "form"), "action": "start"}
            answer = client.post("/new", data={**form, "spec": spec})
    assert answer.status_code == 422 and "holds a secret" in answer.text
    before_the_form = answer.text.split("<textarea")[0]
    assert secret not in before_the_form and "line 2" in before_the_form
    assert not (runs / "leaky").exists()
