"""One JSON request to the platform, over a unix socket or HTTPS, tried again until a deadline.

Reads are safe to repeat. Writes are too, since their idempotency key is the same over all tries.

Covered: tokens leave this machine under TLS only, to a server whose certificate is of the given CA
(without one: of a public CA). A certificate of another is refused at once.
"""

import random
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import BaseModel, TypeAdapter, ValidationError

from aarlab.core.errors import AarlabError, BadInput, Damaged, Superseded, Unreachable, error_of
from aarlab.core.loopback import is_loopback
from aarlab.core.supervision import LIFE_HEADER
from aarlab.core.wire import Problem

FIRST_WAIT_S = 0.05
LONGEST_WAIT_S = 2.0
PAGE = 200
OCTETS = "application/octet-stream"
RETRIED = frozenset({429, 500, 502, 503, 504, 507})
Answer = TypeVar("Answer")
# Writes that a later life of the AAR makes again with no harm, whatever was kept before them.
REPEATED = frozenset({"/v1/sessions", "/v1/waiting", "/v1/reservations", "/v1/spend"})


@dataclass(frozen=True, slots=True)
class Address:
    """Where the platform listens: the path of a unix socket, or a URL.

    `ca` is a file with the only CA whose certificates count; None: those of public CAs do. Raises
    BadInput for http beyond this machine, which would show the token to the network.
    """

    place: Path | str
    ca: Path | None = None

    def __post_init__(self) -> None:
        if isinstance(self.place, str):
            _check_url(self.place)

    def client(self, token: str, request_s: float) -> httpx.Client:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        if isinstance(self.place, Path):
            # A unix socket has no TLS. Loading the certificates takes longer than a request.
            transport = httpx.HTTPTransport(uds=str(self.place), verify=False)
            return httpx.Client(
                base_url="http://platform", transport=transport, headers=headers, timeout=request_s
            )
        # trust_env off: a proxy in the environment must not see tokens. It also turns
        # SSL_CERT_FILE off, so the CA is given here.
        return httpx.Client(
            base_url=self.place,
            headers=headers,
            timeout=request_s,
            trust_env=False,
            verify=self.verify(),
        )

    def verify(self) -> ssl.SSLContext | bool:
        """Return which certificates a client of a URL accepts. Raises BadInput for a bad `ca`."""
        return True if self.ca is None else _only(self.ca)

    def knock(self) -> None:
        """Raise OSError if nothing listens on the unix socket: httpx leaks a failed one."""
        if isinstance(self.place, Path):
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
                probe.connect(str(self.place))


@dataclass
class Life:
    """The life of one AAR process, which all its connections share.

    `number` is None until the process opened its session, and `begun` is set then. `over` is set
    when the platform refused a request of this life because a newer one has begun.
    """

    number: int | None = None
    begun: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)


def _check_url(given: str) -> None:
    """Raise BadInput unless this is an https URL, or an http URL of this machine."""
    try:
        url = httpx.URL(given)
    except httpx.InvalidURL as error:
        raise BadInput(f"{given!r} is not a URL ({error}): expected https://HOST:PORT") from None
    if url.scheme not in ("https", "http") or not url.host:
        raise BadInput(f"{given!r} is not a URL: expected https://HOST:PORT")
    if url.scheme == "http" and not is_loopback(url.host):
        raise BadInput(
            f"{given}: http would send the token readable through the network. Use https "
            "(`aarlab serve RUN --tls` makes a certificate), or a tunnel to this machine"
        )


def _only(ca: Path) -> ssl.SSLContext:
    """Return a context that accepts certificates of this CA alone. Raises BadInput."""
    try:
        return ssl.create_default_context(cafile=str(ca))
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(f"{ca} cannot be read as the certificate of a CA: {error}") from None


class Transport:
    """Raises the core.errors class that the platform named, or Unreachable at the deadline."""

    def __init__(
        self,
        address: Address,
        token: str,
        deadline_s: float = 60.0,
        request_s: float = 60.0,
        headers: Mapping[str, str] | None = None,
        life: Life | None = None,
    ) -> None:
        self._address, self._deadline_s = address, deadline_s
        self._answered = False
        self._life = Life() if life is None else life
        self.before_effect: Callable[[], None] | None = None
        self._client = address.client(token, request_s)
        self._client.headers.update(headers or {})

    def close(self) -> None:
        self._client.close()

    def get(
        self, path: str, answer: type[Answer], query: Mapping[str, str | int] | None = None
    ) -> Answer:
        return _parsed(self._send(self._client.build_request("GET", path, params=query)), answer)

    def get_bytes(self, path: str, query: Mapping[str, str | int] | None = None) -> bytes:
        return self._send(self._client.build_request("GET", path, params=query)).content

    def get_pages(
        self, path: str, item: type[Answer], query: Mapping[str, str | int]
    ) -> Iterator[Answer]:
        """Yield all items of a list route, page by page.

        Only the cursor of the Link header is used.
        """
        asked = {"limit": PAGE, **query}
        while True:
            response = self._send(self._client.build_request("GET", path, params=asked))
            yield from _parsed(response, list[item])  # type: ignore[valid-type]
            following = response.links.get("next")
            if following is None:
                return
            asked["after"] = httpx.URL(following["url"]).params["after"]

    def post(
        self, path: str, answer: type[Answer], body: BaseModel | None = None, key: str | None = None
    ) -> Answer:
        """Write once: give `key` to make the call repeatable across a restart of the caller.

        `before_effect` is called first, but not for what only says how the caller is (REPEATED).
        """
        if self.before_effect is not None and path not in REPEATED:
            self.before_effect()
        request = self._client.build_request(
            "POST",
            path,
            content=b"" if body is None else body.model_dump_json().encode(),
            headers={
                "Idempotency-Key": key or uuid.uuid4().hex,
                "Content-Type": "application/json",
            },
        )
        return _parsed(self._send(request), answer)

    def put(self, path: str, answer: type[Answer], body: bytes | BaseModel) -> Answer:
        """Replace what is at `path`, which is the same however often it is done."""
        raw = body if isinstance(body, bytes) else body.model_dump_json().encode()
        kind = OCTETS if isinstance(body, bytes) else "application/json"
        headers = {"Content-Type": kind}
        request = self._client.build_request("PUT", path, content=raw, headers=headers)
        return _parsed(self._send(request), answer)

    def _send(self, request: httpx.Request) -> httpx.Response:
        give_up, wait_s = time.monotonic() + self._deadline_s, FIRST_WAIT_S
        if self._life.number is not None:
            request.headers[LIFE_HEADER] = str(self._life.number)
        while True:
            failure: AarlabError
            try:
                if not self._answered:
                    self._address.knock()
                response = self._client.send(request)
            except (httpx.TransportError, OSError) as error:
                self._answered = False
                if (fault := _certificate_fault(error)) is not None:
                    raise Unreachable(
                        f"{self._address.place} is refused: {fault}. Expected a certificate of "
                        f"{self._address.ca or 'a public CA'}"
                    ) from None
                failure = Unreachable(
                    f"{self._address.place} does not answer ({type(error).__name__}): "
                    "is the server of this campaign running?"
                )
            else:
                self._answered = True
                if response.is_success:
                    return response
                failure = _problem(response)
                if isinstance(failure, Superseded):
                    self._life.over.set()
                if response.status_code not in RETRIED:
                    raise failure
                wait_s = max(wait_s, _retry_after_s(response))
            if time.monotonic() + wait_s > give_up:
                raise failure
            # Jitter only: clients that lost one server must not all come back together.
            time.sleep(wait_s * random.uniform(0.5, 1.0))
            wait_s = min(wait_s * 2, LONGEST_WAIT_S)


def _certificate_fault(error: BaseException) -> str | None:
    """Return what is wrong with the server's certificate, if that is what failed."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return cause.verify_message
        cause = cause.__cause__ or cause.__context__
    return None


def _retry_after_s(response: httpx.Response) -> float:
    asked = response.headers.get("retry-after", "")
    return float(asked) if asked.isascii() and asked.isdigit() else 0.0


def _parsed(response: httpx.Response, answer: type[Answer]) -> Answer:
    try:
        adapter: TypeAdapter[Answer] = TypeAdapter(answer)
        return adapter.validate_json(response.content)
    except ValidationError:
        raise Damaged(
            f"{response.request.url.path}: not an answer of this platform's version: "
            "use the same aarlab on both sides"
        ) from None


def _problem(response: httpx.Response) -> AarlabError:
    try:
        problem = Problem.model_validate_json(response.content)
    except ValidationError:
        return AarlabError(f"{response.request.url.path}: HTTP {response.status_code}")
    return error_of(problem.code, problem.message)


def health(address: Address, deadline_s: float) -> None:
    """Return once the platform answers; raise Unreachable after the deadline."""
    transport = Transport(address, token="", deadline_s=deadline_s)
    try:
        transport.get("/health", dict[str, Any])
    finally:
        transport.close()


class Client:
    """Requests over one transport, which is closed at the end of a `with` block."""

    _http: Transport

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()
