"""The way to the platform for an agent in a sandbox: a unix socket, wherever the platform is.

It runs in the AAR's supervisor and passes requests on over the platform's own socket or over TLS,
with the AAR's token and the number of its life.

Covered: the token stays with this process, and no other one can be sent: the agent's headers are
dropped but for a few. What the agent can reach is the platform's API and MCP with the rights of its
AAR, and nothing else: no dashboard, no other address. A life that is over is refused by the
platform. A request that finds no platform is sent once it is there again, for AWAY_S.
Not covered: a request that the platform was answering when it went away; it fails, and the agent
may send it again under its key.
"""

import logging
import re
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import httpx

from aarlab.agents.proxy.serving import AgentSide, served, unix_server
from aarlab.client.transport import Address
from aarlab.core.errors import AarlabError, NotFound, Unreachable
from aarlab.core.supervision import LIFE_HEADER
from aarlab.core.wire import Problem

LOG = logging.getLogger("aarlab.agents")
SOCKET = "platform.sock"
ANSWER_S = 900.0  # a trial takes its time, and a stream of events may be silent
AWAY_S, AGAIN_S = 60.0, 0.5
PATHS = re.compile(r"(?P<path>/mcp|/v1/[\w.~%!$&'()*+,;=:@/-]*)(\?[!-~]*)?", re.ASCII)
_STATUS = {"bad_input": 422, "not_found": 404, "superseded": 409, "budget_exhausted": 402}
_SENT_ON = (
    *("accept", "content-type", "idempotency-key"),
    *("mcp-session-id", "mcp-protocol-version", "last-event-id"),
)
_SENT_BACK = ("content-type", "link", "retry-after", "mcp-session-id", "allow")


@dataclass(frozen=True, slots=True)
class PlatformProxy:
    """What leads one AAR's agent to the platform. `keep` is called before what may write there."""

    address: Address
    token: str
    life: int | None = None
    keep: Callable[[], None] = lambda: None
    away_s: float = AWAY_S

    @contextmanager
    def serving(self, folder: Path, uid: int | None = None) -> Iterator[None]:
        """Serve on `folder`/platform.sock, until the end of the block. A sandbox binds it."""
        with self.address.client(self.token, ANSWER_S) as client:
            if self.life is not None:
                client.headers[LIFE_HEADER] = str(self.life)
            forward = self._forward

            class Bound(_Handler):
                def answer(self) -> None:
                    forward(self, client)

            with served(unix_server(folder, SOCKET, Bound, uid)):
                yield

    def _forward(self, agent: "_Handler", client: httpx.Client) -> None:
        """Pass a request on. Raises NotFound for what is none of an AAR's, and Unreachable."""
        body, path = agent.body(), PATHS.fullmatch(agent.path)
        if path is None or {".", ".."} & set(unquote(path["path"]).split("/")):
            raise NotFound("here are /v1/... and /mcp of the platform, with the rights of this AAR")
        if agent.command != "GET":
            self.keep()
        headers = {name: agent.headers[name] for name in _SENT_ON if name in agent.headers}
        headers["accept-encoding"] = "identity"
        request = client.build_request(agent.command, agent.path, headers=headers, content=body)
        with closing(self._sent(client, request)) as response:
            back = {name: response.headers[name] for name in _SENT_BACK if name in response.headers}
            if response.status_code in (204, 304):
                agent.whole(response.status_code, back, b"")
                return
            agent.open(response.status_code, back)
            for piece in response.iter_bytes():
                agent.piece(piece)
                if agent.gone:
                    return
            agent.end()

    def _sent(self, client: httpx.Client, request: httpx.Request) -> httpx.Response:
        """Return the answer, of which the body is still to come. Raises Unreachable."""
        until = time.monotonic() + self.away_s
        while True:
            try:
                self.address.knock()
                return client.send(request, stream=True)
            except (OSError, httpx.ConnectError, httpx.ConnectTimeout):  # nothing was sent
                if time.monotonic() > until:
                    raise Unreachable("the platform is away: try again later") from None
                time.sleep(AGAIN_S)


class _Handler(AgentSide):
    def answer(self) -> None:
        raise NotImplementedError

    def handled(self) -> None:
        try:
            self.answer()
        except AarlabError as error:
            status = _STATUS.get(error.code, 503)
            self.fail(status, _problem(error.code, str(error)))
        except httpx.HTTPError as error:
            LOG.warning("%s: %s: %s", self.path, type(error).__name__, error)
            said = f"the platform did not answer ({type(error).__name__})"
            self.fail(503, _problem("unreachable", said))


def _problem(code: str, message: str) -> bytes:
    return Problem(code=code, message=message).model_dump_json().encode()
