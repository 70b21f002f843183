"""Numbers as words: one format for each kind of figure, and a dash where there is none."""

from collections.abc import Iterable

from aarlab.core import showing
from aarlab.core.showing import MINUS
from aarlab.core.showing import moment as moment
from aarlab.core.showing import number_of as number_of
from aarlab.core.wire import Interval

NONE = "–"
MAX_NAME = 60


def signed(value: float | None, digits: int = 2) -> str:
    """Return a plain figure with a true minus sign; never "-0.00"."""
    return NONE if value is None else showing.signed(value, digits)


def difference(value: float | None) -> str:
    """Return a figure with its sign, so that a change reads as one."""
    if value is None:
        return NONE
    text = signed(value)
    return text if text.startswith(MINUS) or not float(text) else f"+{text}"


def interval(estimate: Interval | None) -> str:
    return NONE if estimate is None else showing.interval(estimate)


def interval_words(estimate: Interval) -> str:
    bounds = f"{signed(estimate.low)} to {signed(estimate.high)}"
    what = "95 % interval" if estimate.n_seeds > 1 else f"{showing.level(estimate)}:"
    return f"{signed(estimate.value)} ({what} {bounds})"


def levels(estimates: Iterable[Interval]) -> str:
    """Say of which level the intervals of a figure or table are."""
    found = sorted({showing.level(estimate) for estimate in estimates})
    return " or ".join(found) if found else "95 %"


def plus_minus(estimate: Interval | None) -> str:
    return NONE if estimate is None else f"{signed(estimate.value)} ± {signed(estimate.stderr)}"


def accuracy(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"


def p_value(p: float | None) -> str:
    """Format p to three decimals, or to two digits below 0.001, so that no p reads as 0."""
    if p is None:
        return NONE
    return f"{p:.3f}" if p >= 0.001 else f"{p:.1e}"


def count(amount: float | None) -> str:
    return NONE if amount is None else f"{amount:,.0f}"


def dollars(amount: float | None) -> str:
    return NONE if amount is None else f"${amount:,.2f}"


def duration(seconds: float) -> str:
    """Return a duration in two units at most: 48 s, 4 min 12 s, 3 h 20 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def spaced(name: str) -> str:
    """Return a name for programs as words: simplicity_bias becomes simplicity bias."""
    return name.replace("_", " ")


def shortened(name: str) -> str:
    """Return the author's own name of a method, shortened if it is long."""
    return name if len(name) <= MAX_NAME else f"{name[: MAX_NAME - 1].rstrip()}…"


def short_id(identifier: str | None) -> str:
    return identifier[:10] if identifier else NONE
