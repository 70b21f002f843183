"""Text and figures in the form shown to people, in a terminal, a log or a sentence.

Covered: control characters and escape sequences of terminals, characters that change the direction
of the text or have no width, line and paragraph separators, lone surrogates.
Not covered: letters of other scripts that look alike.
"""

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aarlab.core.wire import Interval

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


def signed(value: float, digits: int = 2) -> str:
    """Format a figure with a true minus sign; never "-0.00"."""
    text = f"{value:.{digits}f}"
    return text.replace("-", MINUS) if float(text) else text.lstrip("-")


def interval(estimate: "Interval") -> str:
    """Format an estimate with its interval: 0.46 [0.31, 0.60], or 0.46 [0.31, 0.60, one seed]."""
    bounds = f"{signed(estimate.low)}, {signed(estimate.high)}{marked(estimate)}"
    return f"{signed(estimate.value)} [{bounds}]"


def level(estimate: "Interval") -> str:
    """Say of which level an interval is. With one seed it is of none: seeds may differ by anything.

    It then covers rows only, and how much plain students differ where the task has that measured.
    """
    if estimate.n_seeds > 1:
        return "95 %"
    return ONE_SEED if "seeds of plain students" in estimate.covers else f"{ONE_SEED}, rows only"


def marked(estimate: "Interval") -> str:
    """Return what stands behind the bounds of an interval that is no 95 % interval; else empty."""
    return "" if estimate.n_seeds > 1 else f", {ONE_SEED}"
