"""Runs one command in a sandbox, feeds and drains it, ends the whole tree at a limit.

Covered: wall time, cancelling, output of any length in constant memory, descriptors and variables
of this process (none is inherited), death of this process (the tree dies with it).
Not covered: a payload under "process" isolation that sets out to kill its own supervisor.
"""

import json
import os
import selectors
import socket
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from aarlab.core.errors import BadInput, SandboxUnavailable
from aarlab.sandbox import bubblewrap, process
from aarlab.sandbox.spec import MB, TAIL_BYTES, Finished, Killer, SandboxSpec
from aarlab.sandbox.watch import Watch, ask_to_end, end_tree
from aarlab.sandbox.workspace import disk_use, require_workspace

_CHUNK = 65536
_POLL_S = 0.1
_DRAIN_S = 5.0
_FATAL_SIGNALS: dict[int, Killer] = {128 + 24: "cpu", 128 + 25: "file"}  # SIGXCPU, SIGXFSZ
_CPU_KILL_CODE = 128 + 9


class Cancel(Protocol):
    """E.g. threading.Event."""

    def is_set(self) -> bool: ...


@dataclass
class _Started:
    child: subprocess.Popen[bytes]
    status_fd: int | None


@dataclass
class _Kept:
    """The start of an output, and the end of one that is longer."""

    cap: int
    head: bytearray = field(default_factory=bytearray)
    tail: bytearray = field(default_factory=bytearray)
    truncated: bool = False

    def add(self, data: bytes) -> None:
        room = self.cap - len(self.head)
        self.head += data[:room]
        self.tail += data[room:]
        if len(self.tail) > TAIL_BYTES:
            del self.tail[:-TAIL_BYTES]
        self.truncated = self.truncated or len(data) > room


@dataclass
class _Pump:
    """Moves bytes between the pipes and memory; keeps the start and the end of each output."""

    child: subprocess.Popen[bytes]
    stdin: memoryview
    cap: int
    kept: dict[str, _Kept] = field(init=False)
    ended_fd: int = field(init=False)
    _selector: selectors.BaseSelector = field(default_factory=selectors.DefaultSelector)

    def __post_init__(self) -> None:
        self.kept = {"out": _Kept(self.cap), "err": _Kept(self.cap)}
        self.ended_fd = os.pidfd_open(self.child.pid)

    def open(self) -> None:
        for name, pipe in (("out", self.child.stdout), ("err", self.child.stderr)):
            assert pipe is not None
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe.fileno(), selectors.EVENT_READ, name)
        self._selector.register(self.ended_fd, selectors.EVENT_READ, "ended")
        if self.child.stdin is not None:
            os.set_blocking(self.child.stdin.fileno(), False)
            self._selector.register(self.child.stdin.fileno(), selectors.EVENT_WRITE, "in")

    @property
    def drained(self) -> bool:
        return not any(key.data in self.kept for key in self._selector.get_map().values())

    def turn(self, timeout_s: float) -> None:
        """Wait for any pipe and serve those that are ready."""
        for key, _ in self._selector.select(timeout_s):
            if key.data == "in":
                self._feed(key.fd)
            elif key.data == "ended":
                self._selector.unregister(key.fd)
            else:
                self._drain(key.fd, key.data)

    def close(self) -> None:
        self._selector.close()
        os.close(self.ended_fd)
        for pipe in (self.child.stdin, self.child.stdout, self.child.stderr):
            if pipe is not None and not pipe.closed:
                pipe.close()

    def _feed(self, handle: int) -> None:
        try:
            self.stdin = self.stdin[os.write(handle, self.stdin[:_CHUNK]) :]
        except BrokenPipeError:
            self.stdin = self.stdin[:0]
        if not self.stdin:
            self._selector.unregister(handle)
            assert self.child.stdin is not None
            self.child.stdin.close()

    def _drain(self, handle: int, name: str) -> None:
        data = os.read(handle, _CHUNK)
        if not data:
            self._selector.unregister(handle)
        self.kept[name].add(data)


def run(
    spec: SandboxSpec,
    argv: Sequence[str],
    stdin: bytes | None = None,
    cancel: Cancel | None = None,
    handed: socket.socket | None = None,
    ask: Cancel | None = None,
) -> Finished:
    """Run `argv` in the workspace and wait for its end; no part of it lives on afterwards.

    Once `ask` is set the program gets SIGTERM, and has until `cancel` to end by itself.

    The program also holds `handed`, under the same descriptor number. It is closed here.

    Paths in `argv` are those seen inside (`spec.seen_workspace` ...). Without `stdin` it reads an
    empty one. The thread that calls this must live as long as the call: the tree dies with it.
    Raises SandboxUnavailable when the sandbox cannot be set up, NotFound without a workspace,
    BadInput for a bad `spec` or `argv`. A program that fails or is killed is a Finished.
    """
    if not argv or any("\0" in word for word in argv):
        raise BadInput("argv: expected a program and its arguments, without NUL characters")
    require_workspace(spec.workspace)
    disk_at_start = disk_use(spec.workspace)
    begun = time.monotonic()
    try:
        started = _start(spec, argv, stdin, () if handed is None else (handed.fileno(),))
    finally:
        if handed is not None:
            handed.close()
    pump = _Pump(started.child, memoryview(stdin or b""), spec.limits.output_kb * 1024)
    killer: Killer | None = None
    cpu_s = 0.0
    try:
        pump.open()
        with Watch(spec, started.child.pid, disk_at_start) as watch:
            killer = _attend(watch, started.child, pump, cancel, ask)
    finally:
        # Reached by an error or Ctrl-C as well: the tree never outlives this call.
        cpu_s = _finish(started.child, pump)
        status = _read_status(started.status_fd)
    returncode = started.child.returncode
    if killer is None and started.status_fd is not None and "exit-code" not in status:
        raise SandboxUnavailable(bubblewrap_failed(bytes(pump.kept["err"].head)))
    out, err = pump.kept["out"], pump.kept["err"]
    return Finished(
        returncode=returncode if returncode >= 0 else 128 - returncode,
        stdout=bytes(out.head),
        stderr=bytes(err.head),
        wall_s=time.monotonic() - begun,
        cpu_s=cpu_s,
        killed_by=killer or _limit_behind(returncode, cpu_s, spec),
        truncated=out.truncated or err.truncated,
        stdout_tail=bytes(out.tail),
        stderr_tail=bytes(err.tail),
    )


def bubblewrap_failed(stderr: bytes) -> str:
    said = stderr.decode(errors="replace").strip()[-400:] or "it ended without a word"
    return f"bubblewrap could not start the program: {said}"


def _start(
    spec: SandboxSpec, argv: Sequence[str], stdin: bytes | None, handed: tuple[int, ...]
) -> _Started:
    source = subprocess.DEVNULL if stdin is None else subprocess.PIPE
    if not spec.isolated:
        command = process.limited(spec, argv, os.getpid())
        home = spec.seen_workspace
        variables = bubblewrap.base_environment(home, "/tmp") | dict(spec.env)
        return _Started(_spawn(command, source, variables, home, handed), None)
    reads, writes = os.pipe()
    try:
        made = bubblewrap.launch(spec, argv, writes)
        try:
            # bwrap's own environment is readable inside through /proc/1/environ: it gets none.
            command = process.reaped(made.argv, os.getpid(), {})
            child = _spawn(command, source, {}, Path("/"), (*made.fds, writes, *handed))
        finally:
            made.close()
    except BaseException:
        os.close(reads)
        raise
    finally:
        os.close(writes)
    return _Started(child, reads)


def _spawn(
    command: list[str],
    stdin: int,
    env: dict[str, str],
    folder: Path,
    fds: tuple[int, ...],
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        command,
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=folder,
        pass_fds=fds,
        # Ctrl-C in a terminal reaches the supervisor alone, which then ends the tree in order.
        start_new_session=True,
    )


def _attend(
    watch: Watch,
    child: subprocess.Popen[bytes],
    pump: _Pump,
    cancel: Cancel | None,
    ask: Cancel | None,
) -> Killer | None:
    """Serve the pipes until the program ends by itself (None) or a limit is passed."""
    deadline = time.monotonic() + watch.spec.limits.wall_s
    while not (pump.drained and _has_ended(child.pid)):
        left_s = deadline - time.monotonic()
        if left_s <= 0:
            return "wall"
        if cancel is not None and cancel.is_set():
            return "cancel"
        if ask is not None and ask.is_set():
            ask_to_end(child.pid)
            ask = None
        if passed := watch.due():
            return passed
        pump.turn(min(left_s, _POLL_S))
    return None


def _has_ended(pid: int) -> bool:
    return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _finish(child: subprocess.Popen[bytes], pump: _Pump) -> float:
    """End what still lives, take the last output, reap; CPU seconds of the tree."""
    if not _has_ended(child.pid):
        end_tree(child.pid)
    deadline = time.monotonic() + _DRAIN_S
    while not pump.drained and time.monotonic() < deadline:
        pump.turn(_POLL_S)
    pump.close()
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def _read_status(handle: int | None) -> dict[str, int]:
    """Return bwrap's own account; "exit-code" is there only if it started the program."""
    if handle is None:
        return {}
    with os.fdopen(handle, "rb") as lines:
        documents = [json.loads(line) for line in lines.read().split(b"\n") if line.strip()]
    return {name: value for document in documents for name, value in document.items()}


def _limit_behind(returncode: int, cpu_s: float, spec: SandboxSpec) -> Killer | None:
    code = returncode if returncode >= 0 else 128 - returncode
    if code == _CPU_KILL_CODE and cpu_s >= spec.limits.cpu_s * 0.95:
        return "cpu"
    if code in _FATAL_SIGNALS:
        return _FATAL_SIGNALS[code]
    left, limits = disk_use(spec.workspace), spec.limits
    too_much = left.n_bytes > limits.disk_mb * MB or left.n_entries > limits.entries
    return "disk" if too_much or left.deep else None
