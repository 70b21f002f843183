"""The proxy: the only way by which agents in the sandbox reach the model vendors.

Covered: the key is added here and is not in any answer, error or file that the agent can read.
Headers of the agent are dropped but for a few. Only model routes and allowed models pass, and
nothing that the vendor would run or open (calls.py). Each call is reserved before and booked after
(booking.py), and an agent that hangs up pays all the same. The unix socket belongs to one AAR's
uid; a TCP port asks for the AAR's token.
Not covered: a vendor that reports a wrong usage; what a prompt carries out to the vendor.
"""

import hmac
import json
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx

from aarlab.agents.language.redaction import cleaner
from aarlab.agents.proxy.booking import Begun, Ledger
from aarlab.agents.proxy.calls import Asked, Meter, parse
from aarlab.agents.proxy.serving import (
    MAX_CALLS_AT_ONCE,
    AgentSide,
    served,
    tcp_server,
    unix_server,
)
from aarlab.agents.proxy.settings import ProxySettings, Vendor
from aarlab.agents.refusals import Refusal, refusal_in, refusal_of
from aarlab.core.errors import AarlabError, Forbidden
from aarlab.core.wire_service import ModelCall

LOG = logging.getLogger("aarlab.agents.proxy")
SOCKET = "models.sock"
_SENT_ON = ("accept", "content-type", "anthropic-version", "anthropic-beta", "openai-beta")
_SENT_BACK = ("content-type", "retry-after", "retry-after-ms", "x-should-retry", "request-id")
# Clients give up at these at once, but for 429 and those of the platform being away (503).
_STATUS = {
    "bad_input": 400,
    "not_found": 404,
    "forbidden": 403,
    "budget_exhausted": 402,
    "superseded": 403,
    "too_many_requests": 429,
}
_KIND = {"budget_exhausted": "billing_error", "forbidden": "permission_error"}

Seen = Callable[[Asked, bytes, ModelCall], None]
# A refusal, or None for a call that the vendor accepted, and the seconds until that was known.
Noticed = Callable[[Refusal | None, float], None]


def _unnoticed(_refusal: Refusal | None, _took_s: float) -> None:
    """Ignore a refusal."""


@dataclass(frozen=True)
class Proxy:
    """The model proxy of one AAR.

    `token` is required on TCP. `seen` receives each call before it is booked. `noticed` receives
    None for a call that the vendor accepted, and otherwise its refusal, sorted by meaning.
    """

    settings: ProxySettings
    ledger: Ledger
    models: Sequence[str]
    token: str
    vendors: httpx.Client
    seen: Seen
    noticed: Noticed = _unnoticed

    def handler(self, asks_token: bool) -> type[AgentSide]:
        proxy = self

        class Bound(_Handler):
            def admit(self) -> None:
                if asks_token and not proxy.knows(self.headers):
                    raise Forbidden("give the AAR's token as the API key")

            def answer(self, body: bytes) -> None:
                where = urlsplit(self.path)
                asked = parse(self.command, where.path, body, proxy.models)
                proxy.forward(self, asked, self.path)

        return Bound

    def knows(self, headers: Any) -> bool:
        given = headers.get("x-api-key") or headers.get("authorization", "").removeprefix("Bearer ")
        return hmac.compare_digest(given.encode(), self.token.encode())

    def forward(self, agent: "_Handler", asked: Asked, path: str) -> None:
        request = self._request(agent, asked, path)
        begun = None if asked.api == "count" else self.ledger.begin(asked)  # counting is free
        began = time.monotonic()
        try:
            response = self.vendors.send(request, stream=True)
        except httpx.HTTPError as error:
            self.noticed(refusal_of(error), time.monotonic() - began)
            if begun is not None and isinstance(error, httpx.ConnectError):
                self.ledger.free(begun)
            elif begun is not None:  # it may have reached the model: nobody knows what it cost
                self.ledger.finish(begun, None)
            raise
        with closing(response):
            if begun is not None and response.status_code == 200:
                self.noticed(None, time.monotonic() - began)
                self._through(agent, asked, begun, response)
                return
            if begun is not None:
                self.ledger.free(begun)
            response.read()
            if response.status_code >= 400:
                refusal = refusal_in(response.status_code, response.content, self._without_key)
                self.noticed(refusal, time.monotonic() - began)
            agent.whole(response.status_code, _back(response), self._clean(asked, response))

    def _through(
        self,
        agent: "_Handler",
        asked: Asked,
        begun: Begun,
        response: httpx.Response,
    ) -> None:
        """Pass the answer on, to its end even when the agent has gone: its cost is stated there."""
        kept, meter, whole = bytearray(), Meter(asked.api, asked.streams), False

        def heard(call: ModelCall) -> None:
            if whole:
                self.seen(asked, bytes(kept), call)

        try:
            agent.open(200, _back(response))
            for piece in response.iter_bytes():
                meter.take(piece)
                kept += piece
                agent.piece(piece)
            meter.end()
            whole = True
        finally:
            dearer = meter.dearer
            self.ledger.finish(begun, meter.tokens, meter.one_hour_tokens, dearer, heard)
        agent.end()

    def _request(self, agent: "_Handler", asked: Asked, path: str) -> httpx.Request:
        headers = {name: agent.headers[name] for name in _SENT_ON if name in agent.headers}
        headers["accept-encoding"] = "identity"
        key = self.settings.key(asked.vendor)
        if asked.vendor == "anthropic":
            headers["x-api-key"] = key
        else:
            headers["authorization"] = f"Bearer {key}"
        url = self.settings.base_url(asked.vendor) + path
        return self.vendors.build_request("POST", url, headers=headers, content=asked.body)

    def _clean(self, asked: Asked, response: httpx.Response) -> bytes:
        """Return the answer without the key, which a vendor's error may quote, or a part of it."""
        if response.status_code in (401, 403):
            message = f"{asked.vendor} refused the key of the AAR's supervisor"
            return _problem(asked.vendor, "authentication_error", message)
        return self._without_key(response.content.decode(errors="replace")).encode()

    def _without_key(self, text: str) -> str:
        keys = (self.settings.anthropic_api_key, self.settings.openai_api_key)
        return cleaner([key.get_secret_value() for key in keys])(text)


def _back(response: httpx.Response) -> dict[str, str]:
    return {name: response.headers[name] for name in _SENT_BACK if name in response.headers}


def _problem(vendor: Vendor, kind: str, message: str) -> bytes:
    """Return an error in the form that the vendor's clients read."""
    error: dict[str, Any] = {"type": kind, "message": message}
    if vendor == "anthropic":
        return json.dumps({"type": "error", "error": error}).encode()
    return json.dumps({"error": {**error, "param": None, "code": kind}}).encode()


class _Handler(AgentSide):
    """The agent's side of one connection: what fails is told in the form of its vendor."""

    def admit(self) -> None:
        raise NotImplementedError

    def answer(self, body: bytes) -> None:
        raise NotImplementedError

    def handled(self) -> None:
        vendor: Vendor = "anthropic" if "/messages" in self.path else "openai"
        try:
            body = self.body()
            self.admit()
            self.answer(body)
        except AarlabError as error:
            status = _STATUS.get(error.code, 503)
            kind = _KIND.get(error.code, "invalid_request_error" if status < 500 else "api_error")
            self.fail(status, _problem(vendor, kind, f"{error.code}: {error}"))
        except httpx.HTTPError as error:
            # Its text may name the address, never the key: that is in a header.
            LOG.warning("%s: %s: %s", self.path, type(error).__name__, error)
            said = f"the vendor did not answer ({type(error).__name__})"
            self.fail(502, _problem(vendor, "api_error", said))


@contextmanager
def listening(
    proxy: Proxy, folder: Path, uid: int | None = None, port: int | None = None
) -> Iterator[int | None]:
    """Serve on `folder`/models.sock until the end of the block, and on loopback with `port`.

    Port 0 is any free port. The folder is what a sandbox binds. Yields the TCP port.

    Books first what a killed process left open.
    """
    proxy.ledger.settle()
    with ExitStack() as opened:
        unix = unix_server(folder, SOCKET, proxy.handler(asks_token=False), uid)
        opened.enter_context(served(unix))
        if port is None:
            yield None
            return
        tcp = tcp_server(port, proxy.handler(asks_token=True))
        opened.enter_context(served(tcp))
        yield tcp.server_address[1]


def vendors_client(settings: ProxySettings) -> httpx.Client:
    limits = httpx.Limits(max_connections=MAX_CALLS_AT_ONCE)
    timeout = httpx.Timeout(settings.answer_s, connect=30.0)
    return httpx.Client(timeout=timeout, limits=limits)
