"""The colour of each AAR: one for every figure of report and dashboard.

The hues stay apart for common kinds of colour blindness. A dash tells the eighth AAR from the
first. `static/style.css` of the dashboard has the same hues as `--series-1` to `--series-7`.
"""

from collections.abc import Iterable
from typing import NamedTuple

HUES = ("#0b62a8", "#c4500a", "#00795b", "#934a86", "#7d6400", "#0f7f9c", "#6a51c9")


class Look(NamedTuple):
    """`hue` is an index of `HUES`; `turn` counts how often the hues were used up before."""

    hue: int
    turn: int


def looks_of(aars: Iterable[str]) -> dict[str, Look]:
    """Look by name. `aars` are all AARs of the campaign, in the order of their registration,
    without baselines: an AAR has its look whether it has a score or not."""
    return {
        name: Look(index % len(HUES), index // len(HUES))
        for index, name in enumerate(dict.fromkeys(aars))
    }
