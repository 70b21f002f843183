"""Run the platform: one process with a unix socket, and a TCP port if one is asked for.

The socket is open to every uid on purpose, since sandboxed AARs have their own. Tokens authorise.

Signed heads of the log are exported while the platform runs, after N entries or T seconds.
"""

import asyncio
import logging
import os
import signal
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import uvicorn
import uvloop

from aarlab.core.errors import Conflict, Unavailable
from aarlab.core.hashing import LogHead
from aarlab.server.app import create_app, join_servers, open_scorer, open_store
from aarlab.server.auth import operator_token
from aarlab.server.settings import ServerSettings
from aarlab.store import heads, log
from aarlab.store.database import Database
from aarlab.store.heads import Signer

logger = logging.getLogger("aarlab.server")
POLL_S = 1.0
FILE = "heads.jsonl"


class HeadExport:
    """What was exported last, and when.

    It looks at the database, since other servers write to it too.
    """

    def __init__(self, settings: ServerSettings, database: Database, signer: Signer) -> None:
        self._every_entries, self._every_s = settings.head_every_entries, settings.head_every_s
        self._path: Path = settings.run_dir.heads / FILE
        self._database, self._signer = database, signer
        self._last, self._at_s = LogHead(0, ""), -float("inf")

    async def look(self, now_s: float, at_once: bool = False) -> None:
        """Export the head if it is new and due.

        In an outage the next look tries again.
        """
        try:
            async with self._database.read() as tx:
                found = await log.head(tx)
            new, old = found.seq - self._last.seq, now_s - self._at_s >= self._every_s
            if new and (at_once or old or new >= self._every_entries):
                head = LogHead(found.seq, found.hash)
                await asyncio.to_thread(heads.append, self._path, self._signer.sign(head))
                self._last, self._at_s = head, now_s
        except Unavailable:
            pass  # logged where it was found
        except OSError as error:
            logger.warning("no signed head was exported to %s: %s", self._path, error.strerror)

    async def run(self) -> None:
        while True:
            await self.look(time.monotonic())
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def exporting(
    settings: ServerSettings, database: Database, signer: Signer
) -> AsyncIterator[None]:
    """Export heads for as long as this is open, and the last one at its end."""
    export = HeadExport(settings, database, signer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(export.run())
        try:
            yield
        finally:
            running.cancel()
    await export.look(time.monotonic(), at_once=True)


BACKLOG = 256
SHUTDOWN_S = 10


def serve(settings: ServerSettings, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then finish open requests and return.

    `listening` is called once, when connections are accepted.

    Raises AarlabError for a loose vault, a port or socket in use, another server on the run, or a
    database that does not answer or belongs to another run.
    """
    settings.run.mkdir(parents=True, exist_ok=True)  # before the umask: AARs pass through it
    os.umask(0o077)
    stop = Stop()
    stop.heed_signals()
    scorer = open_scorer(settings)
    store = open_store(settings)

    async def run() -> None:
        await store.database.open()
        try:
            signer = Signer.open(settings.run_dir.signing_key, settings.run_dir.public_key)
            token = operator_token(settings.run_dir.tokens)
            await join_servers(store, token, signer.public_key)
            async with AsyncExitStack() as opened:
                sockets = _sockets(settings, opened)
                config = uvicorn.Config(
                    create_app(settings, store, scorer),
                    log_config=None,
                    access_log=False,
                    lifespan="on",
                    server_header=False,
                    timeout_graceful_shutdown=SHUTDOWN_S,
                )
                await opened.enter_async_context(exporting(settings, store.database, signer))
                server = uvicorn.Server(config)
                stop.applies_to(server)
                listening()
                await server.serve(sockets=sockets)
        finally:
            await store.database.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


class Stop:
    """SIGTERM and SIGINT outside the time in which uvicorn handles them.

    A signal that arrives before the server runs ends it as soon as it does. uvicorn raises signals
    again after it has shut down; that must not crash a clean stop.
    """

    def __init__(self) -> None:
        self._asked = False
        self._server: uvicorn.Server | None = None

    def heed_signals(self) -> None:
        """Install the handlers, if this thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._ask())

    def applies_to(self, server: uvicorn.Server) -> None:
        """End this server when a signal arrives, or has arrived."""
        self._server = server
        if self._asked:
            server.should_exit = True

    def _ask(self) -> None:
        self._asked = True
        if self._server is not None:
            self._server.should_exit = True


def _sockets(settings: ServerSettings, opened: AsyncExitStack) -> list[socket.socket]:
    sockets = []
    if settings.unix_socket:
        path = settings.run_dir.socket
        sockets.append(opened.enter_context(unix_listener(path)))
        opened.callback(path.unlink, missing_ok=True)
    if settings.port is not None:
        sockets.append(opened.enter_context(tcp_listener(settings.host, settings.port)))
    if not sockets:
        raise Conflict("nothing to listen on: allow the unix socket or give a port")
    return sockets


def unix_listener(path: Path) -> socket.socket:
    """Bind a socket (666) in a folder (755).

    Raises Conflict if something answers there already.
    """
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    path.parent.chmod(0o755)
    if path.exists():
        if _answers(path):
            raise Conflict(
                f"{path} is in use by another server: stop it first; the pages of a campaign that "
                f"is running: aarlab serve --runs {path.parents[2]}"
            )
        path.unlink()
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(str(path))
        path.chmod(0o666)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        hint = "; a socket's path has at most 107 bytes" if len(str(path)) > 107 else ""
        raise Conflict(f"cannot listen on {path}: {error}{hint}") from error
    return listener


def tcp_listener(host: str, port: int) -> socket.socket:
    """Bind a port. Raises Conflict if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio turns Nagle's algorithm off: else each answer waits 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, port))
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        raise Conflict(
            f"cannot listen on {host}:{port}: {error.strerror}: take another port"
        ) from error
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
