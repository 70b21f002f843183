"""The colour of each AAR, the same in every figure of the report and the dashboard.

The hues can be told apart with the common kinds of colour blindness. There are seven hues; from
the eighth AAR on, a dash pattern distinguishes AARs of the same hue. `static/style.css` of the
dashboard has the same hues as `--series-1` to `--series-7`.
"""

from collections.abc import Iterable
from typing import NamedTuple

HUES = ("#0b62a8", "#c4500a", "#00795b", "#934a86", "#7d6400", "#0f7f9c", "#6a51c9")


class Look(NamedTuple):
    """The look of an AAR. `hue` is an index of `HUES`; `turn` counts earlier uses of all hues."""

    hue: int
    turn: int


def looks_of(aars: Iterable[str]) -> dict[str, Look]:
    """Return the look of each AAR by name.

    `aars` are all AARs of the campaign in order of registration, without baselines. AARs without a
    score are included, so that a look does not depend on scores.
    """
    return {
        name: Look(index % len(HUES), index // len(HUES))
        for index, name in enumerate(dict.fromkeys(aars))
    }
