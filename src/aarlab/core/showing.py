"""Text and figures in the form shown to people, in a terminal, a log or a sentence.

Each AAR has a colour, the same in every figure of the report and the dashboard. The hues can be
distinguished with the common kinds of colour blindness. There are seven hues; from the eighth AAR
on, a dash pattern distinguishes AARs of the same hue. `static/style.css` of the dashboard has the
same hues as `--series-1` to `--series-7`.

Covered: control characters and escape sequences of terminals, characters that change the direction
of the text or have no width, line and paragraph separators, lone surrogates.
Not covered: letters of other scripts that look alike.
"""

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from aarlab.core.wire import Interval


NOUNS = {
    "hours": ("hour", "hours"),
    "dollars": ("dollar", "dollars"),
    "device_s": ("device second", "device seconds"),
    "tokens": ("token", "tokens"),
    "submissions": ("submission", "submissions"),
    "methods": ("method to verify", "methods to verify"),
}
"""Of `wire_ledger.Limits`, by field: one, several."""

ONE_SEED = "one seed"
MINUS = "\N{MINUS SIGN}"
_HIDDEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u061c\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff"
    "\ufff9-\ufffb\ud800-\udfff\U000e0000-\U000e007f]"
)


def safe_to_show(text: str) -> str:
    """Spell out characters that control a terminal or hide text: ESC becomes \\x1b.

    Tabs and newlines are kept.
    """
    return _HIDDEN.sub(lambda found: _spelled(found.group()), text)


def one_line(text: str) -> str:
    """Spell out tabs and newlines too, so that a text cannot pose as a separate line."""
    return safe_to_show(text).replace("\t", "\\t").replace("\n", "\\n")


def _spelled(character: str) -> str:
    code = ord(character)
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def number_of(amount: int, noun: str, plural: str = "") -> str:
    """Return an amount with its noun: 1 seed, 2 seeds, 1,200 rows."""
    return f"{amount:,} {noun if amount == 1 else plural or noun + 's'}"


def limits_text(limits: Mapping[str, float | int | None]) -> str:
    """Say limits, or what is left of them, in words.

    None means unlimited. The text is empty without any limit.
    """
    said = ((amount, NOUNS[name]) for name, amount in limits.items() if amount is not None)
    return ", ".join(f"{amount_text(a)} {one if a == 1 else many}" for a, (one, many) in said)


def amount_text(amount: float) -> str:
    """Format an amount with four digits, or more if it is whole: 0.5, 1,200,000."""
    return f"{amount:,.0f}" if amount == int(amount) else f"{amount:,.4g}"


def moment(at: str) -> str:
    """Format an ISO time to the minute, in UTC and saying so: 2026-11-25 09:40 UTC.

    A time without an offset is taken as UTC. A text that is not a time is returned cut short.
    """
    try:
        found = datetime.fromisoformat(at)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError):
        return at[:40]
    return found.strftime("%Y-%m-%d %H:%M UTC")


def signed(value: float, digits: int = 2) -> str:
    """Format a figure with a true minus sign; never "-0.00"."""
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def interval(estimate: "Interval") -> str:
    """Format an estimate with its interval: 0.46 [0.31, 0.60], or 0.46 [0.31, 0.60, one seed]."""
    bounds = f"{signed(estimate.low)}, {signed(estimate.high)}{marked(estimate)}"
    return f"{signed(estimate.value)} [{bounds}]"


def level(estimate: "Interval") -> str:
    """Say of which level an interval is.

    With one seed it does not have a level, since seeds may differ by anything. It then covers rows
    only, and how much plain students differ if the task has that measured.
    """
    if estimate.n_seeds > 1:
        return "95 %"
    return ONE_SEED if "seeds of plain students" in estimate.covers else f"{ONE_SEED}, rows only"


def marked(estimate: "Interval") -> str:
    """Return what stands behind the bounds of an interval that does not reach 95 %; else empty."""
    return "" if estimate.n_seeds > 1 else f", {ONE_SEED}"


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
