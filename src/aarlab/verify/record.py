"""Inside the sandbox: write down what a method's code starts, compiles and reaches for.

Covered: programs, sockets, source that is compiled or parsed in this process, files and folders
outside the interpreter, the method and the public task. Each record leaves through a pipe at once,
so that nothing can take it back. Too many are marked as truncated outside.
Not covered: a method that rewrites this process's memory, an evaluator written by hand, code
objects that were never source here. The teacher ablation is for those.
"""

import json
import os
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

from aarlab.testbed.running.actions import NETWORK, PROGRAMS

MARK = "\x1eaarlab "
MAX_SOURCE = 4000
MAX_RECORDS = 5000
FILES = frozenset({"open", "os.listdir", "os.scandir", "glob.glob", "os.chdir", "shutil.copyfile"})
SYSTEM = ("/usr", "/lib", "/lib64", "/bin", "/etc", "/proc", "/sys", "/dev", "/tmp", "/opt")

Emit = Callable[[str, str], None]


def start_recording(allowed: Iterable[Path]) -> None:
    """Record from here to the end of the process; stdout becomes the record, prints go to stderr.

    `allowed` are files and folders that the method may read besides the interpreter's own.
    """
    sys.stdout.flush()
    pipe = os.dup(1)
    os.dup2(2, 1)
    roots = tuple({sys.prefix, sys.base_prefix, *SYSTEM, *(str(path) for path in allowed)})
    sys.addaudithook(partial(_hook, partial(_write, pipe, set()), roots))


def _hook(emit: Emit, roots: tuple[str, ...], event: str, details: tuple[Any, ...]) -> None:
    if event == "compile":
        _compiled(emit, *details[:2])
    elif event in PROGRAMS:
        emit("program", f"{event} {details[:2]!r}")
    elif event in NETWORK:
        emit("reached", f"{event} {details[1:]!r}")
    elif event in FILES and _outside(details[0] if details else None, roots):
        emit("reached", f"{event} {details[0]!s}")


def _compiled(emit: Emit, source: Any, filename: Any) -> None:
    text = source.decode(errors="replace") if isinstance(source, bytes) else source
    if isinstance(text, str) and not _is_file(text, filename):
        emit("compiled", text)


def _is_file(text: str, filename: Any) -> bool:
    """Return whether compiled source is an import: the text of the file of that name, anywhere."""
    name = filename.decode(errors="replace") if isinstance(filename, bytes) else filename
    if not isinstance(name, str) or not name.endswith(".py"):
        return False
    try:
        with open(name, encoding="utf-8", errors="replace", newline="") as lines:
            return lines.read() == text
    except OSError:
        return False


def _outside(path: Any, roots: tuple[str, ...]) -> bool:
    if isinstance(path, bytes):
        path = path.decode(errors="replace")
    if not isinstance(path, str | os.PathLike):
        return False  # a descriptor that is open already
    if os.path.basename(path).startswith("<"):
        return False  # a traceback that looks for the lines of generated code
    plain = os.path.abspath(path)
    return not any(plain == root or plain.startswith(f"{root}/") for root in roots)


def _write(pipe: int, seen: set[int], kind: str, text: str) -> None:
    if hash((kind, text)) in seen or len(seen) > MAX_RECORDS:
        return
    seen.add(hash((kind, text)))
    line = json.dumps({"kind": kind, "text": text[:MAX_SOURCE]})
    last = json.dumps({"kind": "truncated", "text": ""}) if len(seen) > MAX_RECORDS else ""
    for out in filter(None, (line, last)):
        os.write(pipe, f"{MARK}{out}\n".encode())
