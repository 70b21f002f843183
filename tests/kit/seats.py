"""A person's browser without a screen: logs in at a running platform and keeps its cookies."""

import difflib
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape

import httpx
from platform_kit import Running

HTML = {"Accept": "text/html"}


@contextmanager
def seat(running: Running, token: str | None = None, name: str = "Ada") -> Iterator[httpx.Client]:
    transport = httpx.HTTPTransport(uds=str(running.run.socket), verify=False)
    with httpx.Client(
        transport=transport, base_url="http://platform", timeout=30, headers=HTML
    ) as client:
        if token is not None:
            client.answer = _login(client, {"token": token, "name": name})
        yield client


def _login(client: httpx.Client, given: dict[str, str]) -> httpx.Response:
    """Log in, later where tests have logged in too often for the server's patience."""
    for _ in range(20):
        answer = client.post("/login", data=given)
        if answer.status_code != 429:
            break
        time.sleep(0.25)
    return answer


@contextmanager
def operator_seat(running: Running, name: str = "Ada") -> Iterator[httpx.Client]:
    with seat(running, running.operator_token, name) as client:
        assert client.answer.status_code == 303
        yield client


def field(page: str, name: str) -> str:
    found = re.search(f'name="{name}" value="([^"]*)"', page)
    assert found is not None, name
    return unescape(found.group(1))


def facts(client: httpx.Client, path: str) -> dict:
    answer = client.get(path, params={"format": "json"} if "?" not in path else None)
    if "?" in path:
        answer = client.get(f"{path}&format=json")
    assert answer.status_code == 200, answer.text[:300]
    return answer.json()


def asked_again(client: httpx.Client, path: str, within_s: float = 20.0) -> httpx.Response:
    """Ask for a page with the ETag that it had, until it has not changed in between.

    The operator's figures come in the background. A page is the same twice once they are there.
    """
    until = time.monotonic() + within_s
    while True:
        first = client.get(path)
        again = client.get(path, headers={"If-None-Match": first.headers["etag"]})
        if again.status_code == 304 or time.monotonic() > until:
            was, now = first.text.splitlines(), again.text.splitlines()
            changed = "\n".join(difflib.unified_diff(was, now, n=0, lineterm=""))
            assert again.status_code == 304, f"{path} does not come to rest:\n{changed}"
            return again
