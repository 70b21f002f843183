"""Early ends of a command (Ctrl-C, SIGTERM, closed terminal) and the message on what is kept."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGINT_CODE = 128 + signal.SIGINT


class Terminated(SystemExit):
    """Exit on SIGTERM or SIGHUP. A SystemExit, so every `finally` runs and ends its children."""

    def __init__(self, number: int) -> None:
        self.exit_code = 128 + number
        super().__init__(self.exit_code)
        self.name = signal.Signals(number).name


class Interrupted(Exception):
    """A command was ended early; its note says what is kept."""

    def __init__(self, note: str, cause: BaseException) -> None:
        super().__init__(note)
        self.cause = cause


@contextmanager
def when_interrupted(note: str) -> Iterator[None]:
    """Turn an interruption into Interrupted, with a note on what is kept and how to continue."""
    try:
        yield
    except (KeyboardInterrupt, Terminated) as cause:
        raise Interrupted(note, cause) from cause


def end_on_signals() -> None:
    """Make SIGTERM and SIGHUP end this process as Ctrl-C does.

    A second signal is ignored, so that it does not cut the cleanup short. A signal that the parent
    had ignored (nohup) stays ignored.
    """
    # Windows has no SIGHUP.
    numbers = [getattr(signal, name, None) for name in ("SIGTERM", "SIGHUP")]
    watched = [n for n in numbers if n is not None and signal.getsignal(n) is not signal.SIG_IGN]

    def end(number: int, _frame: FrameType | None) -> None:
        for one in watched:
            signal.signal(one, signal.SIG_IGN)
        raise Terminated(number)

    for number in watched:
        signal.signal(number, end)
