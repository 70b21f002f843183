"""Progress of a long command: one line per step, and a repeated line while a step takes long."""

import threading
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from aarlab.cli.terminal import Console

FIRST_S, EACH_S = 2.0, 10.0
T = TypeVar("T")


class Steps:
    """Printer of the steps of a command.

    A step that takes longer than `first_s` seconds is printed again with its time so far, then
    every `each_s` seconds.
    """

    def __init__(self, console: Console, first_s: float = FIRST_S, each_s: float = EACH_S) -> None:
        self.console, self.first_s, self.each_s = console, first_s, each_s
        self._step, self._begun, self._count = "", time.monotonic(), ""
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Steps":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def tell(self, text: str) -> None:
        """Begin a step and print its name."""
        self._step, self._begun, self._count = text, time.monotonic(), ""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def counted(self, items: Iterable[T], what: str) -> Iterator[T]:
        """Yield the items; their running count is shown in the repeated line."""
        for number, item in enumerate(items, start=1):
            self._count = f", {number:,} {what}"
            yield item

    def _watch(self) -> None:
        due = self.first_s
        while not self._over.wait(0.1):
            taken = time.monotonic() - self._begun
            if taken < self.first_s:
                due = self.first_s
            elif self._step and taken >= due:
                due = taken + self.each_s
                line = f"  ... {self._step}: {taken:.0f} s{self._count}"
                self.console.print(line, highlight=False, soft_wrap=True)
