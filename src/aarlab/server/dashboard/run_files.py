"""Files of the run's folder next to the database: events, the spec, the state of its process.

They are only read, and not trusted: a damaged line is left out.
"""

import json
import os
import shutil
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.agents.state import how_it_ended
from aarlab.core.endings import AarEnding, Ending, ending_in
from aarlab.core.errors import AarlabError
from aarlab.core.holding import holder
from aarlab.core.layout import RunDir

TAIL = 1 << 18
MAX_SPEC = 4 << 20
Facts = dict[str, Any]
ENDED = frozenset(
    (Ending.FINISHED, Ending.BUDGET, Ending.STOPPED, Ending.PARTLY, Ending.GIVEN_UP)
)  # an interrupted or crashed campaign continues with `resume`


class Disk(NamedTuple):
    free_bytes: int
    total_bytes: int


class Standing(NamedTuple):
    """How a campaign stands. `state` is for programs, `words` for people.

    `why` is the reason of an end that went wrong.
    """

    state: str
    words: str
    why: str


def last_events(run: RunDir, count: int = 200) -> list[Facts]:
    """Return the newest events of the campaign, oldest first."""
    try:
        with run.events.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - TAIL, 0))
            lines = file.read().split(b"\n")
    except OSError:
        return []
    return [event for line in lines if (event := _event(line)) is not None][-count:]


def _event(line: bytes) -> Facts | None:
    try:
        found = json.loads(line)
    except ValueError:
        return None
    good = isinstance(found, dict) and isinstance(found.get("kind"), str)
    return found if good and isinstance(found.get("at"), str) else None


def campaign_spec(run: RunDir) -> Facts:
    """Return the frozen spec; empty if there is none that can be read."""
    try:
        if run.spec.stat().st_size > MAX_SPEC:
            return {}
        spec = json.loads(run.spec.read_text(encoding="utf-8"))["campaign"]
    except (OSError, ValueError, KeyError, TypeError):
        return {}
    return spec if isinstance(spec, dict) else {}


def is_run_by_a_process(run: RunDir) -> bool:
    """Return whether a process runs or verifies the campaign, without taking its lock."""
    held = holder(run.holder)
    return held is not None and held.work != "look"


def state_of(run: RunDir, events: list[Facts] | None = None) -> str:
    """Return "running", "new" or the value of an `Ending`.

    An unfinished campaign without a process was interrupted.
    """
    return standing(run, events).state


def standing(run: RunDir, events: list[Facts] | None = None) -> Standing:
    """Return whether the campaign is running, or how it ended and why."""
    shown = last_events(run) if events is None else events
    if is_run_by_a_process(run):
        return Standing("running", "running", "")
    for event in reversed(shown):
        if ended := ending_in(event):
            return Standing(ended[0].value, ended[0].words, ended[1])
    if shown:
        return Standing(Ending.INTERRUPTED.value, Ending.INTERRUPTED.words, "")
    return Standing("new", "new", "")


def has_ended(run: RunDir) -> bool:
    """Return whether the campaign has ended and no process works on it."""
    return state_of(run) in {ending.value for ending in ENDED}


def aar_ending(run: RunDir, aar: str) -> AarEnding | None:
    """Return how the AAR ended; None if it has not, or if its folder cannot be read."""
    try:
        return how_it_ended(run, aar)
    except (AarlabError, OSError):
        return None


def disk(path: Path) -> Disk:
    usage = shutil.disk_usage(path)
    return Disk(usage.free, usage.total)
