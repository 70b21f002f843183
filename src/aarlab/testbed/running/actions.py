"""Record what a method does while it runs: files written, sockets, programs, texts read.

Each action is attributed to the author's line that caused it, the innermost on the stack.

Covered: what Python's audit events show, in this process, at import and in every call.
Not covered: compiled code that calls the operating system itself.
"""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FrameType
from typing import Any, Literal, NamedTuple

from aarlab.core.types import Example

Kind = Literal["writes a file", "uses the network", "starts a program", "reads texts"]
PROGRAMS = frozenset(
    {
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
    }
)
NETWORK = frozenset({"socket.connect", "socket.bind", "socket.getaddrinfo", "socket.sendto"})
CHANGES = frozenset(
    {
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.link",
        "os.symlink",
        "os.truncate",
        "os.chmod",
        "os.chown",
        "os.utime",
        "sqlite3.connect",
    }
)
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
MOST = 20  # actions recorded of one kind, so that a loop over files does not flood the report


class Action(NamedTuple):
    """One action. `line` is the author's line, such as `method.py:7`.

    `what` names the file, address, program or row field.
    """

    kind: Kind
    what: str
    line: str


@dataclass(slots=True)
class Watch:
    """Distinct actions of one folder's code so far. Files below `scratch` are ignored."""

    folder: Path
    scratch: Path
    found: dict[Action, None] = field(default_factory=dict)
    active: bool = True

    @classmethod
    @contextmanager
    def on(cls, folder: Path, scratch: Path) -> Iterator["Watch"]:
        """Watch what runs inside the context.

        The audit hook cannot be removed; it does nothing after the context ends.
        """
        watch = cls(folder.absolute(), scratch.absolute())
        sys.addaudithook(watch.hook)
        try:
            yield watch
        finally:
            watch.active = False

    def take(self) -> list[Action]:
        """Return the actions since the last call, and clear them."""
        taken, self.found = list(self.found), {}
        return taken

    def hook(self, event: str, details: tuple[Any, ...]) -> None:
        if not self.active:
            return
        if event in PROGRAMS:
            program = details[0] if details else event
            self.add("starts a program", str(program)[:200])
        elif event in NETWORK:
            self.add("uses the network", f"{event} {_plain(details)!r}"[:200])
        elif not (event in CHANGES or (event == "open" and _writes(*details[1:3]))):
            return
        elif self._counts(details[0] if details else None):
            self.add("writes a file", os.fsdecode(details[0])[:200])

    def add(self, kind: Kind, what: str) -> None:
        line = self._line()
        if line and sum(action.kind == kind for action in self.found) < MOST:
            self.found.setdefault(Action(kind, what, line))

    def _counts(self, path: Any) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return False  # a descriptor that is open already
        if path == ":memory:":
            return False
        plain = Path(os.path.abspath(os.fsdecode(path)))
        return plain != Path(os.devnull) and not plain.is_relative_to(self.scratch)

    def owns(self, code: CodeType) -> bool:
        return code.co_filename.startswith(f"{self.folder}{os.sep}")

    def _line(self) -> str:
        """Return file and line of the innermost frame of the folder's code, or an empty string."""
        frame: FrameType | None = sys._getframe(1)
        while frame is not None:
            if self.owns(frame.f_code):
                return f"{os.path.relpath(frame.f_code.co_filename, self.folder)}:{frame.f_lineno}"
            frame = frame.f_back
        return ""


def _writes(mode: Any = None, flags: Any = 0) -> bool:
    if isinstance(mode, str):
        return any(letter in mode for letter in "wax+")
    return isinstance(flags, int) and bool(flags & WRITING)


def _plain(details: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return the event details that are texts, bytes, integers or tuples, without the socket."""
    return tuple(one for one in details if isinstance(one, str | bytes | int | tuple))


def watched_rows(rows: tuple[Example, ...], watch: Watch) -> tuple[Example, ...]:
    """Return the same rows, recording each read of prompt or answers by the folder's code."""

    class Watched(Example):
        __slots__ = ()

        def __getattribute__(self, name: str) -> Any:
            if name in ("prompt", "answers") and watch.owns(sys._getframe(1).f_code):
                watch.add("reads texts", f"row.{name}")
            return super().__getattribute__(name)

    return tuple(Watched(row.id, row.group, row.prompt, row.answers) for row in rows)
