"""Campaigns as processes of their own, and a server for each whose pages are looked at.

A campaign outlives the lobby; a server that the lobby started dies with it, or when nobody has
looked for a while, so that it does not stand in the way of the campaign's own.
"""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from aarlab.core.errors import Conflict, Unavailable
from aarlab.core.files import write_atomic
from aarlab.core.layout import RunDir
from aarlab.server.dashboard.run_files import is_run_by_a_process
from aarlab.server.lobby.commands import Commands

START_S, STEP_S, IDLE_S, STOP_S = 8.0, 0.1, 600.0, 15.0


class Processes:
    """`start` and `resume` campaigns; `ready` sees to it that a campaign's server answers."""

    def __init__(self, runs: Path, commands: Commands) -> None:
        self._runs, self._commands = runs, commands
        self._servers: dict[str, subprocess.Popen[bytes]] = {}
        self._used_s: dict[str, float] = {}
        self._campaigns: list[subprocess.Popen[bytes]] = []
        self._turn = asyncio.Lock()

    async def start(self, name: str, spec: str) -> None:
        """Raises Conflict where the folder is taken."""
        run = RunDir(self._runs / name)
        try:
            run.path.mkdir(parents=True)
        except FileExistsError:
            raise Conflict(f"{name} exists already: give the campaign another name") from None
        kept = run.path / "launch.yaml"
        write_atomic(kept, spec)
        self._detach(run, self._commands.run(kept, run.path))

    async def resume(self, run: RunDir) -> None:
        """Raises Conflict where it runs already."""
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
    """Whether something accepts connections on the campaign's socket."""
    try:
        _, writer = await asyncio.open_unix_connection(str(run.socket))
    except OSError:
        return False
    writer.close()
    with suppress(OSError):
        await writer.wait_closed()
    return True
