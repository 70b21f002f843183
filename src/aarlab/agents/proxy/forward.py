"""Inside a sandbox: TCP ports of its own loopback that lead to unix sockets bound into it.

    python -m aarlab.agents.proxy.forward 8081=/run/models/models.sock -- PROGRAM ...

For programs that speak HTTP to an address and cannot name a socket. Ends with the program and gives
its exit code. Standard library only.
"""

import socket
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

CHUNK = 65536
POLL_S = 0.1


def main(argv: list[str]) -> int:
    cut = argv.index("--")
    with ExitStack() as opened:
        for rule in argv[:cut]:
            port, _, path = rule.partition("=")
            opened.enter_context(forwarding(int(port), path))
        return subprocess.call(argv[cut + 1 :])


@contextmanager
def forwarding(port: int, path: str) -> Iterator[int]:
    """Forward a loopback port, any free one for 0, to the unix socket at `path`. Yields the port.

    Raises OSError where the port is taken.
    """
    with _server(port, path) as server:
        threading.Thread(target=server.serve_forever, args=(POLL_S,), daemon=True).start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()


def _server(port: int, path: str) -> socketserver.ThreadingTCPServer:
    class Joined(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with socket.socket(socket.AF_UNIX) as far:
                far.connect(path)
                back = threading.Thread(target=_pour, args=(far, self.request), daemon=True)
                back.start()
                _pour(self.request, far)
                back.join()

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        allow_reuse_address = True
        request_queue_size = 64

        def handle_error(self, request: Any, client_address: Any) -> None:
            """Log nothing: the program's own error says that it was not reached."""

    return Server(("127.0.0.1", port), Joined)


def _pour(source: socket.socket, sink: socket.socket) -> None:
    """Copy all bytes one way, then signal their end."""
    try:
        while data := source.recv(CHUNK):
            sink.sendall(data)
    except OSError:
        pass
    try:
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
