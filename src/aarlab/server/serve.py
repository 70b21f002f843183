"""Run the platform: one process with a unix socket, and a TCP port if one is asked for.

The socket is open to every uid on purpose, since sandboxed AARs have their own. Tokens authorise.
With a certificate the port speaks TLS and the socket does not: uvicorn's own setting would cover
both, so the port then has a uvicorn server of its own over the same app.

Signed heads of the log are exported while the platform runs, after N entries or T seconds.
"""

import asyncio
import logging
import os
import signal
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import uvicorn
import uvloop
from fastapi import FastAPI

from aarlab.core.errors import BadInput, Conflict, Unavailable
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
GOODBYE_S = 0.3


def serve(settings: ServerSettings, listening: Callable[[], None] = lambda: None) -> None:
    """Serve until SIGTERM or SIGINT, then finish open requests and return.

    `listening` is called once, when connections are accepted.

    Raises AarlabError for a loose vault, a port or socket in use, another server on the run, a
    certificate that cannot be used, or a database that does not answer or belongs to another run.
    """
    tls = _tls(settings)
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
                unix, tcp = _sockets(settings, opened)
                app = create_app(settings, store, scorer)
                app.state.platform.steering.ending = stop.asked
                await opened.enter_async_context(exporting(settings, store.database, signer))
                if tls is None:
                    server = uvicorn.Server(_config(app, lifespan="on"))
                    stop.applies_to(server)
                    listening()
                    await server.serve(sockets=[*unix, *tcp])
                else:
                    await opened.enter_async_context(app.router.lifespan_context(app))
                    secure = _config(
                        app, lifespan="off", ssl_certfile=tls.file, ssl_keyfile=tls.key
                    )
                    servers = [(_Quiet(secure), tcp)]
                    if unix:
                        servers.append((_Quiet(_config(app, lifespan="off")), unix))
                    stop.applies_to(*(server for server, _ in servers))
                    listening()
                    async with asyncio.TaskGroup() as tasks:
                        for server, sockets in servers:
                            tasks.create_task(server.serve(sockets=sockets))
        finally:
            await store.database.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run())


def _config(app: FastAPI, **more: Any) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=SHUTDOWN_S,
        **more,
    )


class _Quiet(uvicorn.Server):
    """One of several servers of a process, which end together when `Stop` says so."""

    def capture_signals(self) -> nullcontext[None]:  # type: ignore[override]
        return nullcontext()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Finish open requests, then end the connections.

        The end of TLS is a message that a client must answer, and an idle one does not.
        """
        ending = asyncio.ensure_future(super().shutdown(sockets))
        while not (await asyncio.wait([ending], timeout=GOODBYE_S))[0]:
            for connection in list(self.server_state.connections):
                cycle = getattr(connection, "cycle", None)
                if cycle is None or cycle.response_complete:
                    connection.transport.abort()
        await ending


class _Tls(NamedTuple):
    """A certificate that can be used, and its key."""

    file: Path
    key: Path


def _tls(settings: ServerSettings) -> _Tls | None:
    """Return what the TCP port speaks TLS with; None without a certificate. Raises BadInput."""
    certificate, key = settings.certificate, settings.certificate_key
    if certificate is None and key is None:
        return None
    if certificate is None or key is None or settings.port is None:
        raise BadInput("TLS needs three things: a port, a certificate, and the certificate's key")
    try:
        if key.stat().st_mode & 0o077:
            raise BadInput(f"{key} is readable by others than its owner: chmod 600 {key}")
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:  # ssl.SSLError is one
        raise BadInput(f"{certificate} with {key} cannot be used for TLS: {error}") from None
    return _Tls(certificate, key)


class Stop:
    """SIGTERM and SIGINT outside the time in which uvicorn handles them.

    A signal that arrives before the server runs ends it as soon as it does. uvicorn raises signals
    again after it has shut down; that must not crash a clean stop.
    """

    def __init__(self) -> None:
        self._asked = False
        self._servers: tuple[uvicorn.Server, ...] = ()

    def heed_signals(self) -> None:
        """Install the handlers, if this thread may."""
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, lambda *_: self._ask())

    def applies_to(self, *servers: uvicorn.Server) -> None:
        """End these servers when a signal arrives, or has arrived."""
        self._servers = servers
        if self._asked:
            self._ask()

    def asked(self) -> bool:
        """Return whether the server is to end, or ends already."""
        return self._asked or any(server.should_exit for server in self._servers)

    def _ask(self) -> None:
        self._asked = True
        for server in self._servers:
            server.should_exit = True


def _sockets(
    settings: ServerSettings, opened: AsyncExitStack
) -> tuple[list[socket.socket], list[socket.socket]]:
    """Return what listens on the unix socket and on TCP, none or one of each."""
    unix, tcp = [], []
    if settings.unix_socket:
        path = settings.run_dir.socket
        unix.append(opened.enter_context(unix_listener(path)))
        opened.callback(path.unlink, missing_ok=True)
    if settings.port is not None:
        tcp.append(opened.enter_context(tcp_listener(settings.host, settings.port)))
    if not unix and not tcp:
        raise Conflict("nothing to listen on: allow the unix socket or give a port")
    return unix, tcp


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
            f"cannot listen on {host}:{port}: {error.strerror}: take another port (--port)"
        ) from error
    return listener


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except OSError:
            return False
    return True
