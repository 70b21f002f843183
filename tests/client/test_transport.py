"""Retries: one key over all tries, an end at the deadline, and the platform's own errors."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address, health
from aarlab.core.errors import (
    AarlabError,
    BudgetExhausted,
    Damaged,
    TooManyRequests,
    Unreachable,
)
from aarlab.core.wire import Spend

ME = {
    "name": "a",
    "direction": "d",
    "limits": {},
    "submissions_made": 0,
    "submissions_left": None,
    "research_s": 0.0,
    "spend": {},
}
OK = (200, json.dumps(ME))


@contextmanager
def answering(
    *answers: tuple[int, str] | None, headers: dict[str, str] | None = None
) -> Iterator[tuple[PlatformClient, list[dict]]]:
    """A server that gives these answers in turn; None hangs up without one."""
    left, seen = list(answers), []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            seen.append({**self.headers, "body": self.rfile.read(length), "path": self.path})
            answer = left.pop(0)
            if answer is None:
                self.connection.close()
                return
            status, body = answer
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body.encode())

        do_POST = do_GET

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = Address(f"http://127.0.0.1:{server.server_port}")
        try:
            with PlatformClient(address, "tok", deadline_s=5) as client:
                yield client, seen
        finally:
            server.shutdown()
            thread.join()


def _problem(code: str, status: int) -> tuple[int, str]:
    return status, json.dumps({"code": code, "message": "why"})


def test_a_write_is_tried_again_with_the_same_key() -> None:
    with answering(None, _problem("error", 500), (502, "<html>"), OK) as (client, seen):
        assert client.spend(Spend(kind="dollars", amount=1)).name == "a"
    assert len({request["Idempotency-Key"] for request in seen}) == 1 and len(seen) == 4
    assert len({request["body"] for request in seen}) == 1
    assert seen[0]["Authorization"] == "Bearer tok"


def test_a_given_key_is_sent() -> None:
    with answering(OK) as (client, seen):
        client.spend(Spend(kind="dollars", amount=1), key="mine")
    assert seen[0]["Idempotency-Key"] == "mine"


def test_too_many_requests_are_tried_again() -> None:
    with answering(_problem("too_many_requests", 429), OK) as (client, _):
        assert client.me().name == "a"


def test_a_client_waits_as_long_as_it_is_told() -> None:
    slow = _problem("too_many_requests", 429)
    with answering(slow, OK, headers={"Retry-After": "1"}) as (client, _):
        start = time.monotonic()
        client.me()
        assert 0.5 <= time.monotonic() - start < 3
    for odd in ("soon", "-5", "1e9", "²"):
        with answering(slow, OK, headers={"Retry-After": odd.encode().decode("latin-1")}) as (c, _):
            start = time.monotonic()
            c.me()
            assert time.monotonic() - start < 1, odd
    with answering(slow, headers={"Retry-After": "9999"}) as (client, seen):
        with pytest.raises(TooManyRequests):
            client.me()
        assert len(seen) == 1, "past the deadline there is nothing to wait for"


def test_only_the_cursor_of_a_link_is_followed() -> None:
    evil = {"Link": '<https://evil.example/v1/snapshots?after=7>; rel="next"'}
    answers = answering((200, "[]"), (404, "{}"), headers=evil)
    with answers as (client, seen), pytest.raises(AarlabError):
        client.snapshots(aar="x")
    assert [request["path"] for request in seen] == [
        "/v1/snapshots?limit=200&aar=x",
        "/v1/snapshots?limit=200&aar=x&after=7",
    ]


def test_a_refusal_is_raised_at_once_as_its_own_class() -> None:
    with answering(_problem("budget_exhausted", 402)) as (client, seen):
        with pytest.raises(BudgetExhausted, match="why"):
            client.me()
        assert len(seen) == 1


def test_unknown_codes_and_foreign_bodies() -> None:
    with answering(_problem("new_code", 418), (404, "<html>"), (200, '{"x":1}')) as (client, _):
        with pytest.raises(AarlabError, match="why"):
            client.me()
        with pytest.raises(AarlabError, match="HTTP 404"):
            client.me()
        with pytest.raises(Damaged, match="version"):
            client.me()


def test_no_platform_is_unreachable_after_the_deadline(tmp_path: Path) -> None:
    with pytest.raises(Unreachable, match="is the server of this campaign running"):
        health(Address(tmp_path / "no.sock"), deadline_s=0.2)


def test_a_proxy_in_the_environment_never_sees_the_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("NO_PROXY", raising=False)
    with answering(OK) as (client, _):
        assert client.me().name == "a"
