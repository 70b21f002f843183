"""Who may look: the operator, a share link within its bounds, nobody else."""

import base64
import json

import httpx
import pytest
from platform_kit import Running
from seats import facts, field, operator_seat, seat

PAGES = ["/", "/leaderboard", "/audits", "/forum", "/transcripts", "/log", "/tasks", "/shares"]
MORE = [
    "/transcripts/swift",
    "/aars/wren",
    "/aars/wren/log",
    "/live/campaign",
    "/live/curve",
    "/log/check",
]
OPEN_TO_SHARES = ["/", "/leaderboard", "/forum", "/tasks", "/live/campaign", "/live/curve"]


def test_without_the_operators_token_there_is_nothing_to_see(served: Running) -> None:
    for token in (None, "wrong", served.token("curious")):
        with seat(served, token) as client:
            for path in [*PAGES, *MORE]:
                answer = client.get(path)
                assert answer.status_code == 401 and "magpie" not in answer.text, path
            aar = {"Authorization": f"Bearer {served.token(f'more-{len(token or str())}')}"}
            for path in ("/leaderboard?format=json", "/transcripts/swift", "/live/curve"):
                assert client.get(path, headers=aar).status_code == 401


def forged(body: str, name: str) -> str:
    return f"{body}.{base64.urlsafe_b64encode(name.encode()).decode()}.{'0' * 64}"


@pytest.mark.parametrize("cookie", ["", "a.b.c.d", forged("9999999999.00", "Ada")])
def test_a_forged_cookie_opens_nothing(served: Running, cookie: str) -> None:
    with operator_seat(served) as client:
        (name,) = client.cookies.keys()
    with seat(served) as client:
        assert client.get("/", headers={"Cookie": f"{name}={cookie}"}).status_code == 401


def test_a_cookie_with_another_persons_name_is_forged(served: Running) -> None:
    with operator_seat(served) as client:
        ((name, cookie),) = client.cookies.items()
    expires, nonce, _, signature = cookie.split(".")
    other = base64.urlsafe_b64encode(b"Bob").decode().rstrip("=")
    with seat(served) as client:
        changed = f"{name}={expires}.{nonce}.{other}.{signature}"
        assert client.get("/", headers={"Cookie": changed}).status_code == 401


def test_logins_through_the_sandboxes_socket_do_not_use_up_the_operators(served: Running) -> None:
    """The kit's browser comes through the socket, as an AAR would."""
    with seat(served) as client:
        answers = {client.post("/login", data={"token": "x"}).status_code for _ in range(260)}
    assert answers == {403, 429} or answers == {403}


@pytest.fixture(scope="module")
def ended(served: Running) -> Running:
    """Share links show figures of verified methods from the end of a campaign on."""
    event = {"at": "2026-11-17T00:00:00+00:00", "kind": "campaign_ended", "ending": "finished"}
    with served.run.events.open("a") as out:
        out.write(json.dumps(event) + "\n")
    return served


def share(client: httpx.Client, days: str = "7") -> str:
    form = {"form": field(client.get("/shares").text, "form"), "note": "reviewers", "days": days}
    page = client.post("/shares", data=form).text
    return page.split('id="link">')[1].split("<")[0]


def test_a_share_link_shows_no_figure_before_the_end(served: Running) -> None:
    with operator_seat(served) as client:
        link = share(client)
        mine = facts(client, "/leaderboard")["entries"][0]
    with seat(served) as guest:
        guest.get(link)
        board = facts(guest, "/leaderboard")
        assert board["entries"] == [] and board["withheld"]
        assert "campaign has ended" in guest.get("/leaderboard").text
        story = facts(guest, f"/methods/{mine['snapshot']}")
        assert story["withheld"]
        assert not any(story[part] for part in ("standing", "runs", "audits", "verdicts"))
        assert facts(guest, "/")["verdict"] == "" and mine["pgr"]


def test_a_share_link_opens_what_a_report_would_show(ended: Running) -> None:
    with operator_seat(ended) as client:
        link = share(client)
        mine = facts(client, "/leaderboard")
    with seat(ended) as guest:
        assert guest.get(link).status_code == 303
        for path in OPEN_TO_SHARES:
            answer = guest.get(path)
            assert answer.status_code == 200, path
            assert "held out" not in answer.text and "certify" not in answer.text, path
        for path in [*MORE[:2], "/audits", "/transcripts", "/log", "/shares", "/log/check"]:
            assert guest.get(path).status_code == 403, path
        board = facts(guest, "/leaderboard")
        assert {e["task"] for e in board["entries"]} == {"math", "chat"}
        assert "code" in {e["task"] for e in mine["entries"]} | set(mine["tasks"])
        assert all(not e["elsewhere"] for e in board["entries"])
        story = guest.get(f"/methods/{board['entries'][0]['snapshot']}").text
        assert "code" not in {r["task"] for r in _runs(guest, board)}
        assert "Execution record" not in story and "Transcript around" not in story
        assert "give the verdict" not in story and 'name="decision"' not in story


def _runs(guest: httpx.Client, board: dict) -> list[dict]:
    runs = facts(guest, f"/methods/{board['entries'][0]['snapshot']}")["runs"]
    assert runs and all(r["evidence"] is None and r["per_seed"] == [] for r in runs)
    values = [r["estimate"]["value"] for r in runs if r["estimate"]]
    assert values == [round(value, 2) for value in values]
    return runs


def test_a_share_link_shows_no_sharper_score_than_the_aars_saw(ended: Running) -> None:
    with operator_seat(ended) as client:
        link = share(client)
        exact = facts(client, "/live/curve")
    with seat(ended) as guest:
        guest.get(link)
        drawn = guest.get("/live/curve").json()
        assert drawn["exact"] is False and exact["exact"] is True
        values = [v for one in drawn["series"] for _, v in (*one["best"], *one["dots"])]
        assert values and all(abs(v * 100 - round(v * 100)) < 1e-6 for v in values)
        sent = facts(guest, f"/methods/{facts(guest, '/leaderboard')['entries'][0]['snapshot']}")
        assert all(s["exact"] is None for s in sent["submissions"])


def test_a_share_link_can_be_revoked_and_writes_nothing(served: Running) -> None:
    with operator_seat(served) as client:
        link = share(client)
        with seat(served) as guest:
            guest.get(link)
            finding = facts(guest, "/forum")["findings"][0]["id"]
            posted = guest.post(f"/forum/{finding}/comments", data={"text": "x", "by": "y"})
            assert posted.status_code == 403
            made = link.split("/")[-1].split(".")[0]
            form = {"form": field(client.get("/shares").text, "form")}
            assert client.post(f"/shares/{made}/revoke", data=form).status_code == 303
            _until_closed(guest)
            assert seat_opens(served, link) == 403
    with served.operator() as operator:
        last = operator.log(after=operator.head().seq - 40)
        kinds = [e.kind for e in last]
        assert "share" in kinds and "share_revoked" in kinds
        assert link.split(".")[-1] not in str([e.body for e in last])


def _until_closed(guest: httpx.Client) -> None:
    """At once on this server; a second on others of the database."""
    assert guest.get("/leaderboard").status_code == 401


def seat_opens(served: Running, link: str) -> int:
    with seat(served) as guest:
        return guest.get(link).status_code


@pytest.mark.parametrize("change", ["expiry", "id", "signature"])
def test_a_forged_share_link_opens_nothing(served: Running, change: str) -> None:
    with operator_seat(served) as client:
        made, expires, signature = share(client).removeprefix("/share/").split(".")
    changed = {
        "expiry": f"{made}.{int(expires) + 86_400}.{signature}",
        "id": f"shr_000000000000.{expires}.{signature}",
        "signature": f"{made}.{expires}.{'0' * 64}",
    }
    assert seat_opens(served, f"/share/{changed[change]}") == 403


def test_forms_need_this_sessions_token_and_this_site(served: Running) -> None:
    with operator_seat(served) as client, operator_seat(served, "Bob") as other:
        good = field(client.get("/shares").text, "form")
        foreign = field(other.get("/shares").text, "form")
        for token in ("", "0" * 64, foreign):
            assert client.post("/shares", data={"form": token, "days": "1"}).status_code == 403
        elsewhere = {"Sec-Fetch-Site": "cross-site"}
        form = {"form": good, "days": "1"}
        assert client.post("/shares", data=form, headers=elsewhere).status_code == 403
        assert client.post("/aars/wren/control", data={"action": "pause"}).status_code == 403
        assert client.post("/shares", data=form).status_code == 200


def test_logging_out_ends_the_session(served: Running) -> None:
    with operator_seat(served) as client:
        assert client.post("/logout", data={"form": "x"}).status_code == 403
        form = field(client.get("/").text, "form")
        assert client.post("/logout", data={"form": form}).status_code == 303
        assert client.get("/").status_code == 401
