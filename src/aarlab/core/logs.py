"""Logs of the processes, one line per event, with control characters and line breaks escaped."""

import logging
from types import TracebackType

from aarlab.core.showing import one_line, safe_to_show

FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"
Raised = tuple[type[BaseException], BaseException, TracebackType | None] | tuple[None, None, None]


class SafeFormatter(logging.Formatter):
    """Formatter that spells out control characters, and newlines except those of a traceback."""

    def formatMessage(self, record: logging.LogRecord) -> str:
        record.message = one_line(record.message)
        return super().formatMessage(record)

    def formatException(self, ei: Raised) -> str:
        return safe_to_show(super().formatException(ei))


def log_to_stderr(level: str = "WARNING") -> None:
    """Configure the root logger of a process to write to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
