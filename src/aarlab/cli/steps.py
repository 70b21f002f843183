"""Progress of a long command: its steps or stages, and how long it has run.

Steps are printed one per line, and again while a step takes long.
"""

import threading
import time
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import TypeVar

from rich.status import Status
from rich.text import Text

from aarlab.cli.terminal import Console

FIRST_S, EACH_S = 2.0, 10.0
TELLING_S = 5.0  # a pace measured for less says little of the time left
T = TypeVar("T")


class Steps:
    """Printer of the steps of a command.

    A step that takes longer than `first_s` seconds is printed again with its time so far, then
    every `each_s` seconds. A terminal shows it in one line that changes every second.
    """

    def __init__(self, console: Console, first_s: float = FIRST_S, each_s: float = EACH_S) -> None:
        self.console, self.first_s, self.each_s = console, first_s, each_s
        self._step, self._begun, self._count = "", time.monotonic(), ""
        self._first, self._since, self._total = 0, self._begun, 0
        self._over = threading.Event()
        self._line = console.status("") if console.is_terminal else None
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Steps":
        if self._line is not None:
            self._line.start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        if self._line is not None:
            self._line.stop()

    def tell(self, text: str) -> None:
        """Begin a step and print its name."""
        self._step, self._begun, self._count = text, time.monotonic(), ""
        self.console.print(f"  {text}", highlight=False, soft_wrap=True)

    def advance(self, step: str, done: int, total: int) -> None:
        """Say how far a step is; the first call with another step's name begins that step.

        Another `total` begins another count within the step. The time left is estimated from the
        pace of that count alone.
        """
        if step != self._step:
            self.tell(step)
            self._total = 0
        if total != self._total:
            self._first, self._since, self._total = done, time.monotonic(), total
        taken, new = time.monotonic() - self._since, done - self._first
        rest = f", about {taken / new * (total - done):.0f} s left" if new else ""
        left = rest if taken >= TELLING_S and done < total else ""
        self._count = f", {done:,} of {total:,} answers{left}"

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
            elif self._line is not None:
                self._line.update(Text(f"{self._step}: {taken:.0f} s{self._count}"))
            elif self._step and taken >= due:
                due = taken + self.each_s
                line = f"  ... {self._step}: {taken:.0f} s{self._count}"
                self.console.print(line, highlight=False, soft_wrap=True)


STAGE_S, EVERY_S = 2.0, 10.0


class Waiting:
    """Show a stage and the seconds since the start on stderr; stdout stays for results.

    A terminal gets a live line. Elsewhere a plain line is printed after STAGE_S, at each new stage
    (at most one per second) and every EVERY_S.
    """

    def __init__(self, stage: str) -> None:
        self.console = Console(stderr=True, highlight=False)
        self.stage, self.begun = stage, time.monotonic()
        self._stop = threading.Event()
        self._status = Status(self, console=self.console)
        self._lines = threading.Thread(target=self._print_lines, daemon=True)

    @property
    def elapsed_s(self) -> float:
        return time.monotonic() - self.begun

    def at(self, stage: str) -> None:
        self.stage = stage

    def __enter__(self) -> "Waiting":
        if self.console.is_terminal:
            self._status.start()
        else:
            self._lines.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stop.set()
        if self.console.is_terminal:
            self._status.stop()
        else:
            self._lines.join()

    def __rich__(self) -> Text:
        return Text(f"{self.stage}, {self.elapsed_s:.0f} s")

    def _print_lines(self) -> None:
        if self._stop.wait(STAGE_S):
            return
        shown, shown_at = "", 0.0
        while True:
            now = time.monotonic()
            if self.stage != shown or now - shown_at >= EVERY_S:
                shown, shown_at = self.stage, now
                self.console.print(Text(f"  {now - self.begun:4.0f} s  {shown}"), soft_wrap=True)
            if self._stop.wait(1.0):
                return
