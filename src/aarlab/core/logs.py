"""Logs of the processes, one line per event, with control characters and line breaks escaped.

Covered: messages, tracebacks and stacks of log records; warnings; tracebacks of what ends a process
or a thread.
Not covered: what a program that the process starts writes to the same stderr.
"""

import logging
import sys
import threading
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

    def formatStack(self, stack_info: str) -> str:
        return safe_to_show(super().formatStack(stack_info))


def log_to_stderr(level: str = "WARNING") -> None:
    """Configure a process to write its log, warnings and last traceback to stderr."""
    handler = logging.StreamHandler()
    handler.setFormatter(SafeFormatter(FORMAT))
    logging.basicConfig(level=level, handlers=[handler])
    logging.captureWarnings(True)
    if sys.excepthook is sys.__excepthook__:
        sys.excepthook = _log_the_end
    if threading.excepthook is threading.__excepthook__:
        threading.excepthook = _log_the_end_of_a_thread


def _log_the_end(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    logging.getLogger("aarlab").critical("the process ended", exc_info=(kind, error, trace))


def _log_the_end_of_a_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is None or issubclass(ended.exc_type, SystemExit):
        return
    name = "?" if ended.thread is None else ended.thread.name
    raised = (ended.exc_type, ended.exc_value, ended.exc_traceback)
    logging.getLogger("aarlab").critical("thread %s ended", name, exc_info=raised)
