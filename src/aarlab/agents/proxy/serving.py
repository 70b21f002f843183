"""HTTP/1.1 towards an agent in a sandbox: what the proxy and the way to the platform share.

Covered: an agent that opens connections without end, sends no length or too much, is silent or
hangs up; an answer that is cut off, whose connection is closed. The unix socket belongs to one
AAR's uid and is alone in its folder, which is what a sandbox binds.
"""

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import BaseServer, ThreadingTCPServer, ThreadingUnixStreamServer
from typing import Any

from aarlab.core.errors import BadInput

LOG = logging.getLogger("aarlab.agents.proxy")
MAX_BODY = 64 * 2**20
MAX_CALLS_AT_ONCE = 32
IDLE_S = 120.0
POLL_S = 0.1  # how often it looks whether it should end


class AgentSide(BaseHTTPRequestHandler):
    """One connection of an agent. What fails after the answer was begun closes it."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "aarlab", ""
    timeout = IDLE_S
    begun = False
    gone = False

    def handled(self) -> None:
        """Answer one request, by `whole`, by `open`, `piece` and `end`, or by `fail`."""
        raise NotImplementedError

    def do_POST(self) -> None:
        self.begun = self.gone = False
        self.handled()
        if self.gone:
            self.close_connection = True

    do_GET = do_PUT = do_DELETE = do_PATCH = do_POST

    def body(self) -> bytes:
        """Return the request's body. Raises BadInput without its length, and beyond MAX_BODY."""
        length = self.headers.get("content-length", "0")
        known = length.isascii() and length.isdigit() and len(length) < 12
        if "transfer-encoding" in self.headers or not known or int(length) > MAX_BODY:
            self.close_connection = True
            raise BadInput(f"give a Content-Length of at most {MAX_BODY:,} bytes")
        return self.rfile.read(int(length))

    def fail(self, status: int, body: bytes) -> None:
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
        LOG.exception("a call failed here")


class _Unix(_Bounded, ThreadingUnixStreamServer):
    pass


class _Tcp(_Bounded, ThreadingTCPServer):
    allow_reuse_address = True


@contextmanager
def served(server: BaseServer) -> Iterator[None]:
    """Serve until the end of the block."""
    threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()


def tcp_server(port: int, handler: type[AgentSide]) -> ThreadingTCPServer:
    """Listen on loopback; port 0 is any free port."""
    return _Tcp(("127.0.0.1", port), handler)


def unix_server(
    folder: Path, name: str, handler: type[AgentSide], uid: int | None
) -> ThreadingUnixStreamServer:
    """Listen on the socket `folder`/`name`, which belongs to `uid`. The folder is made."""
    folder.mkdir(mode=0o711, parents=True, exist_ok=True)
    folder.chmod(0o711)
    path = folder / name
    path.unlink(missing_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # Through the descriptor: a socket's own path has at most 107 bytes.
        server = _Unix(f"/proc/self/fd/{handle}/{name}", handler)
    finally:
        os.close(handle)
    path.chmod(0o600)
    if uid is not None:
        os.chown(path, uid, uid)
    return server
