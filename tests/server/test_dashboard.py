"""The operator's pages on a real server: who may see them, what they show, what a form does."""

import base64
import re
from contextlib import contextmanager
from html import unescape

import httpx
import pytest
from platform_kit import Running, TinyTask, platform

from aarlab.core.layout import RunDir
from aarlab.core.wire import (
    NewAudit,
    NewFinding,
    NewSnapshot,
    NewVerification,
    Run,
    SnapshotFile,
    VerificationResult,
)

SCRIPT = "<script>document.title='owned'</script>"
PAGES = ["/", "/leaderboard", "/audits", "/forum", "/log"]


@pytest.fixture(scope="module")
def served(tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory):
    """A campaign with one verified, suspect method of a hostile name, and a hostile post."""
    with platform(tiny, RunDir(tmp_path_factory.mktemp("dash") / "run")) as running:
        with running.aar("mallory") as aar, running.operator() as operator:
            parent = aar.put_snapshot(NewSnapshot(name="first", files=files("x = 1\n")))
            new = NewSnapshot(name=f"m {SCRIPT}", parent=parent.id, files=files("x = 2\n"))
            made = aar.put_snapshot(new)
            text = f"{SCRIPT} [go](javascript:alert(1)) ![i](http://e.example/x.png) **bold**"
            post = NewFinding(kind="result", title=f"t {SCRIPT}", text=text, snapshot=made.id)
            finding = aar.post_finding(post)
            aar.comment(finding.id, f"c {SCRIPT}")
            wanted = NewVerification(snapshot=made.id, task=tiny.name, n_seeds=2)
            queued = operator.request_verification(wanted)
            probs = tiny.probs("selection", 0.8, 1)
            runs = [Run(seed=seed, probs=probs) for seed in queued.run_seeds]
            operator.settle(queued.id, VerificationResult(ids=tiny.ids("selection"), runs=runs))
            about = {"aar": "mallory", "snapshot": made.id, "summary": f"s {SCRIPT}"}
            operator.add_audit(NewAudit(kind="shortcut", severity="suspect", **about))
        running.made, running.finding = made.id, finding.id
        yield running


def files(text: str) -> list[SnapshotFile]:
    content = base64.b64encode(text.encode()).decode()
    hostile = SnapshotFile(path=f"{SCRIPT[:8]}.txt", content_b64="eA==")
    return [SnapshotFile(path="method.py", content_b64=content), hostile]


@contextmanager
def browser(running: Running, token: str | None = None):
    transport = httpx.HTTPTransport(uds=str(running.run.socket))
    with httpx.Client(transport=transport, base_url="http://platform", timeout=20) as client:
        if token is not None:
            client.answer = client.post("/login", data={"token": token})
        yield client


def field(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None
    return unescape(found.group(1))


def test_without_the_operators_token_there_is_nothing_to_see(served: Running) -> None:
    for token in (None, "wrong", served.token("curious")):
        with browser(served, token) as client:
            for path in [*PAGES, f"/methods/{served.made}", f"/forum/{served.finding}"]:
                answer = client.get(path)
                assert answer.status_code == 401 and "mallory" not in answer.text, path
            aar = {"Authorization": f"Bearer {served.token('curious2')}"}
            assert client.get("/leaderboard?format=json", headers=aar).status_code == 401


@pytest.mark.parametrize("forged", ["", "a.b.c", "9999999999.00." + "0" * 64])
def test_a_forged_cookie_opens_nothing(served: Running, forged: str) -> None:
    with browser(served) as client:
        answer = client.get("/", headers={"Cookie": f"aarlab_operator={forged}"})
        assert answer.status_code == 401


def test_every_page_quotes_what_aars_wrote(served: Running) -> None:
    with browser(served, served.operator_token) as client:
        assert client.answer.status_code == 303
        for path in [*PAGES, f"/methods/{served.made}", f"/forum/{served.finding}"]:
            answer = client.get(path)
            assert answer.status_code == 200, path
            assert "<script" not in answer.text and 'href="javascript' not in answer.text
            assert "<img" not in answer.text
            policy = answer.headers["content-security-policy"]
            assert "default-src 'none'" in policy and "script-src" not in policy
        assert "<strong>bold</strong>" in client.get(f"/forum/{served.finding}").text


def test_pages_are_also_json(served: Running) -> None:
    with browser(served, served.operator_token) as client:
        (entry,) = client.get("/leaderboard?format=json").json()["entries"]
        assert (entry["snapshot"], entry["rank"]) == (served.made, 1)
        assert entry["flags"] == [{"kind": "shortcut", "severity": "suspect"}]
        story = client.get(f"/methods/{served.made}?format=json").json()
        assert "-x = 1\n+x = 2" in story["files"][0]["diff"]
        assert [s["name"] for s in story["ancestors"]] == ["first"]
        assert client.get("/leaderboard?aar=nobody&format=json").json() == {"entries": []}


def test_a_verdict_needs_this_sessions_form_and_counts_once(served: Running) -> None:
    with browser(served, served.operator_token) as client:
        page = client.get(f"/methods/{served.made}").text
        form = {"decision": "disqualified", "reason": "compares rows", "by": "ann"}
        path = f"/methods/{served.made}/verdict"
        for token in ("", "0" * 64):
            assert client.post(path, data={**form, "form": token, "key": "k"}).status_code == 403
        good = {**form, "form": field(page, "form"), "key": field(page, "key")}
        assert client.post(path, data={**good, "reason": " "}).status_code == 422
        assert client.post(path, data={**good, "decision": "maybe"}).status_code == 422
        for _ in range(2):
            assert client.post(path, data=good).status_code == 303
        assert client.get("/leaderboard?format=json").json()["entries"][0]["rank"] is None
        assert "compares rows" in client.get(f"/methods/{served.made}").text
    with served.operator() as operator:
        assert [v.reason for v in operator.verdicts()] == ["compares rows"]
        kinds = [e.kind for e in operator.log()]
        assert kinds.count("verdict") == 1


def test_logging_out_ends_the_session(served: Running) -> None:
    with browser(served, served.operator_token) as client:
        assert client.post("/logout", data={"form": "x"}).status_code == 403
        form = field(client.get("/").text, "form")
        assert client.post("/logout", data={"form": form}).status_code == 303
        assert client.get("/").status_code == 401


@pytest.mark.parametrize(
    "path", ["/methods/none", "/forum/none", "/forum?after=-1", "/log?before=x"]
)
def test_wrong_addresses_are_said(served: Running, path: str) -> None:
    with browser(served, served.operator_token) as client:
        assert client.get(path).status_code in (404, 422)
