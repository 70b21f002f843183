"""Progress of a command that takes a while: the stage it is at and how long it has run."""

import threading
import time
from types import TracebackType

from rich.status import Status
from rich.text import Text

from aarlab.cli.terminal import Console

FIRST_S, EVERY_S = 2.0, 10.0


class Waiting:
    """Show a stage and the seconds since the start on stderr; stdout stays for results.

    A terminal gets a live line. Elsewhere a plain line is printed after FIRST_S, at each new stage
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
        if self._stop.wait(FIRST_S):
            return
        shown, shown_at = "", 0.0
        while True:
            now = time.monotonic()
            if self.stage != shown or now - shown_at >= EVERY_S:
                shown, shown_at = self.stage, now
                self.console.print(Text(f"  {now - self.begun:4.0f} s  {shown}"), soft_wrap=True)
            if self._stop.wait(1.0):
                return
