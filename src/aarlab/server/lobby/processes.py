"""Campaigns as separate processes, and a server for each whose pages are looked at.

A campaign outlives the lobby. A server that the lobby started ends with the lobby, or when nobody
has looked for a while, so that it does not block the campaign's own server.

Campaigns are shown from the files in their folder; no database is opened. `Commands` holds what the
lobby needs from packages that it must not import. The command line passes it in.
"""

import asyncio
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote

from aarlab.core.errors import Conflict, NotFound, Unavailable
from aarlab.core.errors import Fault as Fault
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir
from aarlab.server.dashboard import run_files
from aarlab.server.dashboard.run_files import is_run_by_a_process


@dataclass(frozen=True, slots=True)
class Checked:
    """A checked spec: its faults, or its name and what it would take at most."""

    faults: tuple[Fault, ...] = ()
    name: str = ""
    estimate: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Commands:
    """What the command line provides.

    `presets` are spec texts. `run` and `resume` start a campaign, `serve` its pages alone.
    """

    presets: Mapping[str, str]
    check: Callable[[str], Checked]
    run: Callable[[Path, Path], Sequence[str]]
    resume: Callable[[Path], Sequence[str]]
    serve: Callable[[Path], Sequence[str]]


START_S, STEP_S, IDLE_S, STOP_S = 8.0, 0.1, 600.0, 15.0


class Processes:
    """Starts and resumes campaigns. `ready` makes sure that a campaign's server answers."""

    def __init__(self, runs: Path, commands: Commands) -> None:
        self._runs, self._commands = runs, commands
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._used_s: dict[str, float] = {}
        self._campaigns: list[subprocess.Popen[bytes]] = []
        self._turn = asyncio.Lock()

    async def start(self, name: str, spec: str) -> None:
        """Start a new campaign. Raises Conflict if the folder is taken."""
        run = RunDir(self._runs / name)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            raise Conflict(f"{name} exists already: give the campaign another name") from None
        kept = run.path / "launch.yaml"
        write_atomic(kept, spec)
        self._detach(run, self._commands.run(kept, run.path))

    async def resume(self, run: RunDir) -> None:
        """Resume a campaign. Raises Conflict if it runs already."""
        async with self._turn:
            if is_run_by_a_process(run):
                raise Conflict(f"{run.path.name} is running already")
            await self._stop(run.path.name)
            self._detach(run, self._commands.resume(run.path))

    async def ready(self, run: RunDir) -> None:
        """Return when the campaign's server answers; raises Unavailable when it will not."""
        self._used_s[run.path.name] = time.monotonic()
        if await answers(run):
            return
        async with self._turn:
            await self._end_idle()
            began = time.monotonic()
            while time.monotonic() - began < START_S:
                if await answers(run):
                    return
                self._serve_alone(run)
                await asyncio.sleep(STEP_S)
        raise Unavailable(f"the server of {run.path.name} does not answer: see its server.log")

    async def close(self) -> None:
        for name in list(self._servers):
            await self._stop(name)

    def _serve_alone(self, run: RunDir) -> None:
        """Start a server, unless the campaign runs, has its own, and is only starting it."""
        self._campaigns = [child for child in self._campaigns if child.poll() is None]
        known = self._servers.get(run.path.name)
        if is_run_by_a_process(run) or not run.spec.is_file():
            return
        if known is None or known.poll() is not None:
            argv = ["setpriv", "--pdeathsig", "KILL", "--", *self._commands.serve(run.path)]
            self._servers[run.path.name] = _spawn(argv, run.path / "server.log")

    def _detach(self, run: RunDir, argv: Sequence[str]) -> None:
        self._campaigns.append(_spawn(argv, run.path / "campaign.log"))

    async def _end_idle(self) -> None:
        now = time.monotonic()
        for name in [n for n, at in self._used_s.items() if now - at > IDLE_S]:
            await self._stop(name)

    async def _stop(self, name: str) -> None:
        child = self._servers.pop(name, None)
        self._used_s.pop(name, None)
        if child is not None and child.poll() is None:
            child.terminate()
            with suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(child.wait, STOP_S)
            if child.poll() is None:
                child.kill()
                await asyncio.to_thread(child.wait)


def _spawn(argv: Sequence[str], log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as out:
        return subprocess.Popen(
            list(argv), stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )


async def answers(run: RunDir) -> bool:
    """Return whether something accepts connections on the campaign's socket."""
    try:
        _, writer = await asyncio.open_unix_connection(str(run.socket))
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True


Facts = dict[str, Any]


def campaigns(runs: Path) -> list[Facts]:
    """Return the campaigns, newest first."""
    found = [_campaign(RunDir(path)) for path in runs.iterdir() if _is_one(path)]
    return sorted(found, key=lambda one: str(one["last"]), reverse=True)


def campaign(runs: Path, name: str) -> RunDir:
    """Return a campaign of this folder. Raises NotFound for any other name."""
    if not _is_name(name) or not _is_one(runs / name):
        raise NotFound(f"no campaign {name[:64]!r} in this folder")
    return RunDir(runs / name)


def _is_one(path: Path) -> bool:
    run = RunDir(path)
    known = run.spec.is_file() or (path / "launch.yaml").is_file()
    return _is_name(path.name) and not path.is_symlink() and known


def _is_name(name: str) -> bool:
    """Return whether the name is that of one visible folder.

    Any letters and spaces are allowed, but no path separator and no unprintable character.
    """
    return name.isprintable() and bool(name) and not name.startswith(".") and "/" not in name


def _campaign(run: RunDir) -> Facts:
    events = run_files.last_events(run)
    spec = run_files.campaign_spec(run)
    aars = spec.get("aars")
    tasks = spec.get("tasks")
    standing = run_files.standing(run, events)
    return {
        "name": run.path.name,
        "link": quote(run.path.name, safe=""),
        "state": standing.state,
        "state_words": standing.words,
        "why": standing.why[:300],
        "tasks": tasks if isinstance(tasks, list) else [],
        "n_aars": len(aars) if isinstance(aars, list) else 0,
        "last": events[-1]["at"] if events else "",
        "event": events[-1]["kind"].replace("_", " ") if events else "",
        "words": "" if events else _last_words(run),
    }


def _last_words(run: RunDir) -> str:
    """Return what a campaign that never began has said."""
    try:
        text = (run.path / "campaign.log").read_text(encoding="utf-8", errors="replace")
        lines = text.strip().split("\n")
    except OSError:
        return ""
    return lines[-1][:300] if lines else ""
