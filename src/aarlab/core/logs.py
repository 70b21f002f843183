"""Logs of the processes, one line an event: what is logged can neither forge a line nor drive a
terminal that shows it."""

import logging
from types import TracebackType

from aarlab.core.showing import one_line, safe_to_show

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class SafeFormatter(logging.Formatter):
    """Spell out control characters; newlines too, but for those of a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Raised) -> str:
        return safe_to_show(super().formatException(ei))


def log_to_stderr(level: str = "WARNING") -> None:
    """Set up the root logger of a process."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
