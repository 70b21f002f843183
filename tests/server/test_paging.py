"""Pages of lists, ETags, and rates with a Retry-After."""

import re

import pytest
from http_kit import http, problem_of, snapshot_of
from platform_kit import Running, TinyTask, platform

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import TooManyRequests
from aarlab.core.wire import NewFinding, NewVerification, Run, VerificationResult
from aarlab.core.wire_service import NewMethod
from aarlab.server.middleware import Pace


def follow(client, path: str) -> list[list]:
    """All pages, by the Link headers."""
    pages = []
    while path:
        response = client.get(path)
        assert response.status_code == 200, response.text
        pages.append(response.json())
        path = response.links.get("next", {}).get("url", "")
        assert len(pages) < 100
    return pages


def flat(pages: list[list]) -> list:
    return [item for page in pages for item in page]


def test_submissions_and_snapshots_come_page_by_page(running: Running) -> None:
    token = running.token("pager")
    with PlatformClient(running.address, token) as aar:
        for seed in range(5):
            aar.submit(running.submission(0.6, seed))
            aar.put_snapshot(snapshot_of({"method.py": f"x = {seed}"}, name=f"n{seed % 2}"))
        with http(running, token) as client:
            for path in ("/v1/submissions", "/v1/snapshots?aar=pager"):
                whole = client.get(path)
                assert "Link" not in whole.headers and len(whole.json()) == 5
                pages = follow(client, f"{path}{'&' if '?' in path else '?'}limit=2")
                assert [len(page) for page in pages] == [2, 2, 1]
                assert flat(pages) == whole.json()
        assert [len(aar.submissions()), len(aar.snapshots(aar="pager"))] == [5, 5]
        assert [s.name for s in aar.snapshots(aar="pager", name="n1")] == ["n1", "n1"]
        assert aar.snapshots(aar="nobody") == aar.snapshots(name="' OR 1=1 --") == []


def test_the_client_follows_pages(running: Running, aar, monkeypatch) -> None:
    monkeypatch.setattr("aarlab.client.transport.PAGE", 2)
    made = [aar.put_snapshot(snapshot_of({"method.py": f"y = {i}"})) for i in range(5)]
    assert aar.snapshots(aar=made[0].aar) == made


def test_verified_methods_come_page_by_page(running: Running, aar) -> None:
    task = running.task
    with running.operator() as operator:
        for accuracy in (0.8, 0.9, 0.7):
            code = snapshot_of({"method.py": f"{accuracy}"})
            snapshot = aar.put_snapshot(code)
            aar.request_verification(NewMethod(snapshot=snapshot.id))
            queued = operator.request_verification(
                NewVerification(snapshot=snapshot.id, task="tiny", n_seeds=1)
            )
            runs = [Run(seed=queued.run_seeds[0], probs=task.probs("selection", accuracy, 1))]
            operator.settle(queued.id, VerificationResult(ids=task.ids("selection"), runs=runs))
    with http(running, running.token("board-reader")) as client:
        whole = client.get("/v1/verified").json()
        assert len(whole) >= 3
        assert flat(follow(client, "/v1/verified?limit=1")) == whole
        assert client.get("/v1/verified?after=99999&limit=1").json() == []


def test_the_operators_lists_come_page_by_page(running: Running) -> None:
    running.token("paged-a"), running.token("paged-b")
    with http(running, running.operator_token) as client:
        for path in ("/v1/operator/aars", "/v1/operator/verifications", "/v1/operator/methods"):
            pages = follow(client, f"{path}?limit=10")
            assert flat(pages) == client.get(path).json()
            assert all(len(page) == 10 for page in pages[:-1])


@pytest.mark.parametrize("query", ["limit=0", "limit=1001", "limit=x", "after=-1", "after=9" * 9])
def test_odd_pages_are_refused(running: Running, aar, query: str) -> None:
    with http(running, running.token("odd-pager")) as client:
        for path in ("submissions", "snapshots", "verified", "methods"):
            answer = client.get(f"/v1/{path}?{query}&after={'9' * 30}")
            assert answer.status_code == 422 and problem_of(answer).code == "bad_input"


READS = ["/v1/me", "/v1/tasks", "/v1/submissions", "/v1/snapshots", "/v1/findings"]
READS += ["/v1/verified", "/v1/methods", "/v1/openapi.json"]


@pytest.mark.parametrize("path", READS)
def test_a_known_etag_saves_the_body(running: Running, path: str) -> None:
    with http(running, running.token("tagger")) as client:
        for _ in range(3):  # /v1/me may change in between: research time runs on
            full = client.get(path)
            tag = full.headers["ETag"]
            assert re.fullmatch(r'W/"[0-9a-f]{32}"', tag)
            again = client.get(path, headers={"If-None-Match": f'"x", {tag}'})
            if again.status_code == 304:
                break
        assert (again.status_code, again.content, again.headers["ETag"]) == (304, b"", tag)
        other = client.get(path, headers={"If-None-Match": 'W/"0"'})
        assert other.status_code == 200 and other.content
        client.headers["Authorization"] = "Bearer aar_wrong"
        assert client.get(path, headers={"If-None-Match": tag}).status_code == 401


def test_an_etag_changes_with_its_list_and_keeps_the_link(running: Running, aar) -> None:
    posts = [NewFinding(kind="insight", title=f"e{i}", text="") for i in range(2)]
    for post in posts:
        aar.post_finding(post)
    for i in range(2):
        aar.put_snapshot(snapshot_of({"method.py": f"z = {i}"}))
    with http(running, running.token("tag-reader")) as client:
        before = client.get("/v1/findings").headers["ETag"]
        aar.post_finding(posts[0])
        seen = client.get("/v1/findings", headers={"If-None-Match": before})
        assert seen.status_code == 200 and seen.headers["ETag"] != before
        full = client.get("/v1/snapshots?limit=1")
        again = client.get("/v1/snapshots?limit=1", headers={"If-None-Match": full.headers["ETag"]})
        assert again.status_code == 304 and again.headers["Link"] == full.headers["Link"]


def test_a_bucket_says_how_long_to_wait() -> None:
    now = 0.0
    pace = Pace(per_s=0.5, burst=1, what="posts", clock=lambda: now)
    pace.admit("a")
    now = 0.5
    with pytest.raises(TooManyRequests, match="posts") as caught:
        pace.admit("a")
    assert caught.value.retry_after_s == pytest.approx(1.5)
    now = 2.01
    pace.admit("a")


def _keyed(key: str) -> dict[str, str]:
    return {"Idempotency-Key": key, "Content-Type": "application/json"}


def test_posts_have_a_rate_of_their_own(tiny: TinyTask, run_dir, monkeypatch) -> None:
    monkeypatch.setenv("AARLAB_SERVER_POSTS_PER_S", "0.1")
    monkeypatch.setenv("AARLAB_SERVER_POST_BURST", "3")
    with platform(tiny, run_dir) as running, http(running, running.token("poster")) as client:
        body = NewFinding(kind="insight", title="t", text="").model_dump_json()
        answers = [
            client.post("/v1/findings", content=body, headers=_keyed(f"k{i}")) for i in range(4)
        ]
        assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
        assert 1 <= int(answers[-1].headers["Retry-After"]) <= 10
        finding = answers[0].json()["id"]
        for path, content in (("comments", '{"text":"x"}'), ("vote", '{"value":"up"}')):
            refused = client.post(
                f"/v1/findings/{finding}/{path}", content=content, headers=_keyed("c")
            )
            assert refused.status_code == 429
        assert client.get("/v1/findings").status_code == 200
        other = client.post("/v1/sessions", headers={"Idempotency-Key": "s"})
        assert other.status_code == 200
        assert len(client.get("/v1/findings").json()["findings"]) == 3
