"""What became of the last score of each task, as the events of a campaign have it.

Light on purpose: `campaign status` reads it.
"""

import json
from typing import Any, Literal

from pydantic import FiniteFloat

from aarlab.core.layout import RunDir
from aarlab.core.wire import Name, Wire

EVENT = "certify"


class Certified(Wire):
    """What became of the certify score of one task, and what it cost.

    `skipped`: there is none, and `why` says why. `seconds` are those of the re-run on the device;
    `dollars` follow from them at the campaign's rate and are in no AAR's spend.
    """

    task: Name
    state: Literal["queued", "done", "failed", "skipped"]
    method: str = ""
    seeds: int = 0
    seconds: FiniteFloat = 0.0
    dollars: FiniteFloat = 0.0
    why: str = ""


def last_certified(run: RunDir) -> list[Certified]:
    """Read the last report of each task from the events; damaged lines are left out."""
    try:
        lines = run.events.read_bytes().split(b"\n")
    except OSError:
        return []
    found = dict[str, Certified]()
    for line in lines:
        if f'"{EVENT}"'.encode() not in line:
            continue
        try:
            event: dict[str, Any] = json.loads(line)
            if event.pop("kind") == EVENT:
                event.pop("at")
                made = Certified.model_validate(event)
                found[made.task] = made
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
    return list(found.values())
