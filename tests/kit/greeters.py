"""Listeners outside a sandbox that greet whoever reaches them."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress


@contextmanager
def greeters(greeting: str, *addresses: str) -> Iterator[int]:
    """On unix sockets at `addresses` (abstract with a leading NUL), and on the TCP port given."""
    listeners = [socket.create_server(("127.0.0.1", 0))]
    for address in addresses:
        listeners.append(socket.socket(socket.AF_UNIX))
        listeners[-1].bind(address)
        listeners[-1].listen()
    for listener in listeners:
        threading.Thread(target=_greet, args=(listener, greeting), daemon=True).start()
    try:
        yield listeners[0].getsockname()[1]
    finally:
        for listener in listeners:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()


def _greet(listener: socket.socket, greeting: str) -> None:
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        with connection, suppress(OSError):  # who looked may have gone already
            connection.sendall(greeting.encode())
