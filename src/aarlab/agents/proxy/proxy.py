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
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer, ThreadingUnixStreamServer
from typing import Any
from urllib.parse import urlsplit

import httpx

from aarlab.agents.language.redaction import cleaner
from aarlab.agents.proxy.booking import Begun, Ledger
from aarlab.agents.proxy.calls import Asked, Meter, parse
from aarlab.agents.proxy.settings import ProxySettings, Vendor
from aarlab.agents.refusals import Refusal, refusal_in, refusal_of
from aarlab.core.errors import AarlabError, BadInput, Forbidden
from aarlab.core.wire_service import ModelCall

LOG = logging.getLogger("aarlab.agents.proxy")
SOCKET = "models.sock"
MAX_BODY = 64 * 2**20
MAX_CALLS_AT_ONCE = 32
IDLE_S = 120.0
POLL_S = 0.1  # how often it looks whether it should end
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

    `token` is required on TCP. `seen` receives each booked call. `noticed` receives None for a call
    that the vendor accepted, and otherwise its refusal, sorted by meaning.
    """

    settings: ProxySettings
    ledger: Ledger
    models: Sequence[str]
    token: str
    vendors: httpx.Client
    seen: Seen
    noticed: Noticed = _unnoticed

    def handler(self, asks_token: bool) -> type[BaseHTTPRequestHandler]:
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
        kept, meter = bytearray(), Meter(asked.api, asked.streams)
        try:
            agent.open(200, _back(response))
            for piece in response.iter_bytes():
                meter.take(piece)
                kept += piece
                agent.piece(piece)
            meter.end()
        finally:
            call = self.ledger.finish(begun, meter.tokens, meter.one_hour_tokens, meter.dearer)
        agent.end()
        self.seen(asked, bytes(kept), call)

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


class _Handler(BaseHTTPRequestHandler):
    """HTTP/1.1 towards the agent. What fails after the answer was begun closes the connection."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "aarlab", ""
    timeout = IDLE_S
    begun = False
    gone = False

    def admit(self) -> None:
        raise NotImplementedError

    def answer(self, body: bytes) -> None:
        raise NotImplementedError

    def do_POST(self) -> None:
        self.begun = self.gone = False
        vendor: Vendor = "anthropic" if "/messages" in self.path else "openai"
        try:
            body = self._body()
            self.admit()
            self.answer(body)
        except AarlabError as error:
            status = _STATUS.get(error.code, 503)
            kind = _KIND.get(error.code, "invalid_request_error" if status < 500 else "api_error")
            self._fail(status, _problem(vendor, kind, f"{error.code}: {error}"))
        except httpx.HTTPError as error:
            # Its text may name the address, never the key: that is in a header.
            LOG.warning("%s: %s: %s", self.path, type(error).__name__, error)
            said = f"the vendor did not answer ({type(error).__name__})"
            self._fail(502, _problem(vendor, "api_error", said))
        if self.gone:
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST

    def _body(self) -> bytes:
        length = self.headers.get("content-length", "0")
        known = length.isascii() and length.isdigit() and len(length) < 12
        if "transfer-encoding" in self.headers or not known or int(length) > MAX_BODY:
            self.close_connection = True
            raise BadInput(f"give a Content-Length of at most {MAX_BODY:,} bytes")
        return self.rfile.read(int(length))

    def _fail(self, status: int, body: bytes) -> None:
        if self.begun:
            self.close_connection = True  # an answer without its end is seen as cut
            return
        self.whole(status, {"content-type": "application/json"}, body)

    def whole(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.begun = True
        self._write_head(status, {**headers, "content-length": str(len(body))})
        self._write(body)

    def open(self, status: int, headers: dict[str, str]) -> None:
        self.begun = True
        self._write_head(status, {**headers, "transfer-encoding": "chunked"})

    def piece(self, data: bytes) -> None:
        if data:
            self._write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

    def end(self) -> None:
        self._write(b"0\r\n\r\n")

    def _write_head(self, status: int, headers: dict[str, str]) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        with self._losing_the_agent():
            self.end_headers()

    def _write(self, data: bytes) -> None:
        if not self.gone:
            with self._losing_the_agent():
                self.wfile.write(data)

    @contextmanager
    def _losing_the_agent(self) -> Iterator[None]:
        try:
            yield
        except OSError:
            self.gone = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: calls are in the ledger, and the default would write to stderr."""


class _Bounded:
    """An agent that opens connections without end waits, instead of taking all threads."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, *args: Any, **options: Any) -> None:
        self._free = threading.BoundedSemaphore(MAX_CALLS_AT_ONCE)
        super().__init__(*args, **options)

    def process_request(self, request: Any, client_address: Any) -> None:
        self._free.acquire()
        super().process_request(request, client_address)  # type: ignore[misc]

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)  # type: ignore[misc]
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        LOG.exception("the proxy failed in a call")


class _Unix(_Bounded, ThreadingUnixStreamServer):
    pass


class _Tcp(_Bounded, ThreadingTCPServer):
    allow_reuse_address = True


@contextmanager
def listening(
    proxy: Proxy, folder: Path, uid: int | None = None, port: int | None = None
) -> Iterator[int | None]:
    """Serve on `folder`/models.sock until the end of the block, and on loopback with `port`.

    Port 0 is any free port. The folder is what a sandbox binds. Yields the TCP port.

    Books first what a killed process left open.
    """
    proxy.ledger.settle()
    servers: list[Any] = [_unix(proxy, folder, uid)]
    if port is not None:
        servers.append(_Tcp(("127.0.0.1", port), proxy.handler(asks_token=True)))
    for server in servers:
        threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
    try:
        yield servers[-1].server_address[1] if port is not None else None
    finally:
        for server in servers:
            server.shutdown()
            server.server_close()


def _unix(proxy: Proxy, folder: Path, uid: int | None) -> _Unix:
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)
    path = folder / SOCKET
    path.unlink(missing_ok=True)
    handler: type[StreamRequestHandler] = proxy.handler(asks_token=False)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Through the descriptor: a socket's own path has at most 107 bytes.
        server = _Unix(f"/proc/self/fd/{handle}/{SOCKET}", handler)
    finally:
        os.close(handle)
    path.chmod(0o600)
    if uid is not None:
        os.chown(path, uid, uid)
    return server


def vendors_client(settings: ProxySettings) -> httpx.Client:
    limits = httpx.Limits(max_connections=MAX_CALLS_AT_ONCE)
    timeout = httpx.Timeout(settings.answer_s, connect=30.0)
    return httpx.Client(timeout=timeout, limits=limits)
