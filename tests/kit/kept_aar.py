"""An AAR whose process is killed at a given moment; and a link to the platform that can be cut.

`python kept_aar.py AAR.json WHERE WHEN COUNT`: as `python -m aarlab.agents AAR.json`, but the
process kills itself (SIGKILL) `before`, `after` or `within` the call number COUNT of one method.
"""

import os
import select
import signal
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

OWNERS = {
    "ask": ("aarlab.agents.language.models", "Asker"),
    "run": ("aarlab.agents.language.tools.kit", "Kit"),
}


def killing(call: Callable[..., Any], when: str, count: int) -> Callable[..., Any]:
    seen = 0

    def counted(*args: Any, **more: Any) -> Any:
        nonlocal seen
        seen += 1
        if seen == count and when == "within":
            threading.Timer(0.15, os.kill, [os.getpid(), signal.SIGKILL]).start()
        if seen == count and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = call(*args, **more)
        if seen == count:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return counted


Place = Path | tuple[str, int]


class Cable:
    """A unix socket or a TCP port that leads to another one, until it is cut and once mended.

    `snap` cuts it for a moment when so many bytes more have come from here.
    """

    def __init__(self, place: Place, there: Place) -> None:
        self._there, self._whole, self._open = there, threading.Event(), set[socket.socket]()
        self._whole.set()
        self._left, self.snapped = float("inf"), 0
        self._listening = _socket_of(place)
        self._listening.bind(_address(place))
        self._listening.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> "Cable":
        return self

    def __exit__(self, *_: object) -> None:
        self._listening.shutdown(socket.SHUT_RDWR)
        self.cut()
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def cut(self) -> None:
        self._whole.clear()
        for end in list(self._open):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        self._whole.set()

    def snap(self, after: int) -> None:
        self._left = after

    @property
    def port(self) -> int:
        return int(self._listening.getsockname()[1])

    def _accept(self) -> None:
        while True:
            try:
                here, _ = self._listening.accept()
            except OSError:
                return
            if not self._whole.is_set():
                here.close()
                continue
            there = _socket_of(self._there)
            there.connect(_address(self._there))
            self._open |= {here, there}
            self._threads.append(threading.Thread(target=self._carry, args=(here, there)))
            self._threads[-1].start()

    def _carry(self, here: socket.socket, there: socket.socket) -> None:
        """Carry both ways until one end is closed; close both."""
        with here, there, suppress(OSError):
            ends = {here: there, there: here}
            while True:
                for end in select.select(list(ends), [], [])[0]:
                    data = end.recv(65536)
                    if not data:
                        self._open -= ends.keys()
                        return
                    if end is here and (left := self._left) < len(data):
                        data, self._left = data[: int(left)], float("inf")
                        ends[end].sendall(data)
                        self.snapped += 1
                        self.cut()
                        self.mend()
                        return
                    self._left -= len(data) if end is here else 0
                    ends[end].sendall(data)


def _socket_of(place: Place) -> socket.socket:
    return socket.socket(socket.AF_UNIX if isinstance(place, Path) else socket.AF_INET)


def _address(place: Place) -> str | tuple[str, int]:
    return str(place) if isinstance(place, Path) else place


def main(config: str, where: str, when: str, count: str) -> None:
    import importlib

    module, name = OWNERS.get(where, ("aarlab.client.platform", "PlatformClient"))
    owner = getattr(importlib.import_module(module), name)
    setattr(owner, where, killing(getattr(owner, where), when, int(count)))
    from aarlab.agents.__main__ import main as agent

    sys.exit(agent([config]))


if __name__ == "__main__":
    main(*sys.argv[1:])
