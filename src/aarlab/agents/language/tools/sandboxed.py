"""Tools that work inside the sandbox: shell, Python, files, background commands."""

import re
import shlex
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import PurePosixPath
from typing import Annotated

from pydantic import Field

from aarlab.agents.language.context import cut
from aarlab.agents.language.state import Background, LoopState
from aarlab.agents.language.tools.kit import FOLDER, Args, Kit, Place, Result, Tool, how_it_ended
from aarlab.core.clock import now_iso
from aarlab.core.errors import BadInput
from aarlab.sandbox.spec import Finished
from aarlab.sandbox.workspace import copy_out

HEAD_CHARS, TAIL_CHARS = 8_000, 8_000
MAX_EDIT_BYTES = 4 * 2**20
MAX_BACKGROUND_S = 24 * 3600.0
LONGEST_LINE = 2_000
# $1 path, $2 first line, $3 last line
VIEW = f"""if [ -d "$1" ]; then exec ls -la -- "$1"; fi
if [ ! -e "$1" ]; then echo "there is no file $1" >&2; exit 1; fi
exec awk -v a="$2" -v b="$3" 'NR > b {{ exit }} NR >= a {{
  printf "%6d  %s\\n", NR, substr($0, 1, {LONGEST_LINE}) }}' "$1" """

Timeout = Annotated[float, Field(gt=0, description="seconds; the default is the longest there is")]


class Bash(Args):
    command: Annotated[str, Field(min_length=1, max_length=100_000)]
    timeout_s: Timeout | None = None


class Python(Args):
    code: Annotated[str, Field(min_length=1, max_length=200_000)]
    timeout_s: Timeout | None = None


Device = Annotated[
    bool,
    Field(
        description="hold a GPU alone while it runs: the command waits until one is free, so leave "
        "this out where no GPU is needed"
    ),
]


class BashOnDevice(Bash):
    device: Device = False


class PythonOnDevice(Python):
    device: Device = False


class View(Args):
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    first_line: Annotated[int, Field(ge=1)] = 1
    last_line: Annotated[int, Field(ge=1)] = 400


class Create(Args):
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    text: Annotated[str, Field(max_length=MAX_EDIT_BYTES)]


class Replace(Args):
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    old: Annotated[str, Field(min_length=1, description="must be in the file exactly once")]
    new: str


class Insert(Args):
    path: Annotated[str, Field(min_length=1, max_length=1000)]
    after_line: Annotated[int, Field(ge=0, description="0 is before the first line")]
    text: str


class Start(Args):
    command: Annotated[str, Field(min_length=1, max_length=100_000)]
    timeout_s: Annotated[float, Field(gt=0, le=MAX_BACKGROUND_S)] = MAX_BACKGROUND_S


class StartOnDevice(Start):
    device: Device = False


class Which(Args):
    id: Annotated[str, Field(pattern=r"^b[0-9]+$", description="e.g. b1")]


def bash(kit: Kit, args: Bash, place: Place) -> Result:
    """Return stdout and stderr in the order in which they came."""
    argv = ["/bin/bash", "-c", 'exec /bin/bash -c "$0" 2>&1', args.command]
    return _command(kit, argv, place, args, None)


def python(kit: Kit, args: Python, place: Place) -> Result:
    argv = ["/bin/bash", "-c", f"exec {shlex.quote(kit.python)} - 2>&1"]
    return _command(kit, argv, place, args, args.code.encode())


def _command(
    kit: Kit, argv: Sequence[str], place: Place, args: Bash | Python, stdin: bytes | None
) -> Result:
    longest = kit.spec.tool_timeout_s
    wall_s = min(args.timeout_s or longest, longest)
    if getattr(args, "device", False):
        held = kit.run_on_device(argv, place.key, stdin, wall_s)
        return Result(_told(held.done, wall_s))
    done = kit.run(argv, place.key, stdin, wall_s)
    return Result(_told(done, wall_s))


def _told(done: Finished, wall_s: float) -> str:
    text = done.stdout.decode(errors="replace")
    if done.truncated:
        text += "\n... [cut here; the end follows] ...\n" + done.stdout_tail.decode(
            errors="replace"
        )
    lines = [cut(text, HEAD_CHARS, TAIL_CHARS).rstrip("\n")] if text.strip() else ["(no output)"]
    if done.timed_out:
        lines.append(
            f"[timed out after {wall_s:.0f} s; everything it started was ended. Long work belongs "
            "into start_background]"
        )
    elif done.killed_by is not None or done.returncode != 0:
        lines.append(f"[{how_it_ended(done)}]")
    return "\n".join(lines)


def view(kit: Kit, args: View, place: Place) -> Result:
    words = [args.path, str(args.first_line), str(max(args.last_line, args.first_line))]
    done = kit.glance(["/bin/sh", "-c", VIEW, "view", *words])
    if done.returncode != 0:
        raise BadInput(done.stderr.decode(errors="replace").strip() or how_it_ended(done))
    text = done.stdout.decode(errors="replace")
    return Result(cut(text, HEAD_CHARS * 2, TAIL_CHARS) or "(empty, or no such lines)")


def inside(kit: Kit, path: str) -> str:
    """Return a path as the AAR names it, relative to its workspace; BadInput outside of it."""
    given, top = PurePosixPath(path), PurePosixPath(str(kit.sandbox.seen_workspace))
    if not given.is_absolute():
        return str(given)
    if not given.is_relative_to(top) or given == top:
        raise BadInput(f"{path}: files can be changed below {top} only")
    return str(given.relative_to(top))


def create(kit: Kit, args: Create, place: Place) -> Result:
    kit.put({inside(kit, args.path): args.text.encode()})
    return Result(f"wrote {args.path} ({len(args.text):,} characters)")


def replace_text(kit: Kit, args: Replace, place: Place) -> Result:
    path, text = _text(kit, args.path)
    found = text.count(args.old)
    if found != 1:
        raise BadInput(f"{args.path}: `old` is there {found} times; it must be there exactly once")
    kit.put({path: text.replace(args.old, args.new).encode()})
    return Result(f"replaced in {args.path}")


def insert(kit: Kit, args: Insert, place: Place) -> Result:
    path, text = _text(kit, args.path)
    lines = re.findall(r"[^\n]*\n|[^\n]+$", text)
    if args.after_line > len(lines):
        raise BadInput(f"{args.path} has {len(lines)} lines, after_line is {args.after_line}")
    new = args.text if args.text.endswith("\n") else args.text + "\n"
    joined = "".join([*lines[: args.after_line], new, *lines[args.after_line :]])
    kit.put({path: joined.encode()})
    return Result(f"inserted after line {args.after_line} of {args.path}")


def _text(kit: Kit, path: str) -> tuple[str, str]:
    relative = inside(kit, path)
    try:
        return relative, copy_out(kit.sandbox, relative, MAX_EDIT_BYTES).decode()
    except UnicodeDecodeError as error:
        raise BadInput(f"{path} is not UTF-8 text") from error


def start(kit: Kit, args: Start, place: Place) -> Result:
    name = f"b{len(place.state.background) + 1}"
    kit.keeper.touch()
    devices = kit.leasable() if getattr(args, "device", False) else None
    kit.backgrounds.start(name, args.command, args.timeout_s, devices)
    log = f"{FOLDER}/{name}.log"
    made = Background(
        id=name, command=args.command, log=log, started_at=now_iso(), timeout_s=args.timeout_s
    )
    text = f"started {name}; its output goes to {log}; poll_background or kill_background it"
    return Result(text, lambda state: state.with_background(made))


def poll(kit: Kit, args: Which, place: Place) -> Result:
    job = _job(place.state, args.id)
    ended = job.ended or kit.backgrounds.ended(job.id)
    seen = f"{args.id}: {ended or f'running for {kit.backgrounds.seconds(args.id):.0f} s'}"
    tail = kit.glance(["/usr/bin/tail", "-c", str(TAIL_CHARS), "--", job.log])
    output = tail.stdout.decode(errors="replace") if tail.ok else "(no output yet)"
    return Result(f"{seen}\nlast output ({job.log}):\n{output}")


def kill(kit: Kit, args: Which, place: Place) -> Result:
    job = _job(place.state, args.id)
    kit.backgrounds.kill(job.id)
    return Result(f"{args.id}: {kit.backgrounds.ended(job.id) or 'it does not end'}")


def _job(state: LoopState, name: str) -> Background:
    job = state.background_of(name)
    if job is None:
        known = ", ".join(one.id for one in state.background) or "none"
        raise BadInput(f"no background command {name}; there are {known}")
    return job


def wait(kit: Kit, args: "Wait", place: Place) -> Result:
    """Wait: costs research time, and no device time while no background command runs."""
    end = time.monotonic() + args.seconds
    running = [one.id for one in place.state.background if not one.ended]
    while (left_s := end - time.monotonic()) > 0:
        if any(kit.backgrounds.ended(name) for name in running) or kit.signals.wanted == "stop":
            break
        time.sleep(min(left_s, 2.0))
    return Result(f"waited {args.seconds - max(left_s, 0.0):.0f} s")


class Wait(Args):
    seconds: Annotated[float, Field(gt=0, le=600)]


SANDBOX_TOOLS = (
    Tool("bash", "Run a shell command in your sandbox, in /workspace. No network.", Bash, bash),
    Tool("python", "Run Python code in a fresh interpreter in your sandbox.", Python, python),
    Tool("view", "Lines of a file, or what a folder holds.", View, view, repeatable=True),
    Tool("create_file", "Write a file of the workspace, whole.", Create, create, repeatable=True),
    Tool("replace_in_file", "Replace one text in a file.", Replace, replace_text),
    Tool("insert_in_file", "Insert lines into a file.", Insert, insert),
    Tool("start_background", "Start a long command and continue in the meantime.", Start, start),
    Tool("poll_background", "State and last output of one.", Which, poll, repeatable=True),
    Tool("kill_background", "End a background command.", Which, kill, repeatable=True),
    Tool(
        "wait",
        "Wait; comes back early when a background command ends.",
        Wait,
        wait,
        repeatable=True,
    ),
)


ON_DEVICE: dict[str, type[Args]] = {
    "bash": BashOnDevice,
    "python": PythonOnDevice,
    "start_background": StartOnDevice,
}


def sandbox_tools(with_devices: bool) -> tuple[Tool, ...]:
    """Return the tools; where sandboxes may have devices, three of them can ask for one."""
    if not with_devices:
        return SANDBOX_TOOLS
    return tuple(
        replace(tool, args=ON_DEVICE[tool.name]) if tool.name in ON_DEVICE else tool
        for tool in SANDBOX_TOOLS
    )
