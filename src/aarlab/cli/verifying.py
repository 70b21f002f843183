"""Verdicts on own methods, printed as a table in plain words or as JSON."""

from typing import Any

from rich.table import Table

from aarlab.cli.terminal import Console
from aarlab.core.pgr import NO_PGR, Gap
from aarlab.core.showing import level, one_line
from aarlab.core.wire import Interval
from aarlab.verify.own import Verdict

WORDS = {
    "verified": "verified: above the weak teacher, and the score comes from the teacher's labels",
    "elicitation": "elicitation: above the weak teacher, from the strong model more than from "
    "the teacher's labels",
    "not attributed": "above the weak teacher; it failed on permuted labels, so it is unknown "
    "where the score comes from",
    "not above the teacher": "not clearly above the weak teacher",
    "suspect": "suspect: read the findings below before you trust the score",
    "no gap": "no gap: accuracies only",
    "failed": "failed",
}


def as_json(verdicts: list[Verdict]) -> list[dict[str, Any]]:
    """Return one object per method; undefined figures are null."""
    return [
        {
            "name": v.name,
            "pgr": v.pgr and v.pgr.value,
            "low": v.pgr and v.pgr.low,
            "high": v.pgr and v.pgr.high,
            "permuted": v.permuted and v.permuted.value,
            "beats_vanilla": _beats(v.beats_vanilla),
            "beats_guard": _beats(v.beats_guard),
            "guard": v.guard or None,
            "class": v.kind,
            "delivery": v.delivery,
            "open_because": v.open_because or None,
            "train_rows": v.train_rows,
            "templates": list(v.templates),
            "flags": list(v.flags),
            "accuracy": v.accuracy
            and {"value": v.accuracy.value, "low": v.accuracy.low, "high": v.accuracy.high},
            "seeds": score.n_seeds if (score := v.pgr or v.accuracy) else None,
            "unit": "pgr" if v.pgr else "accuracy",
            "error": v.error or None,
            "hash": v.hash,
        }
        for v in verdicts
    ]


def _beats(difference: Interval | None) -> dict[str, Any] | None:
    if difference is None:
        return None
    return {
        "difference": difference.value,
        "low": difference.low,
        "high": difference.high,
        "clearly": difference.low > 0,
    }


def show(console: Console, verdicts: list[Verdict], gap: Gap, title: str) -> None:
    """Print a table of all methods, then what each verdict means and its findings."""
    unit, sign = ("PGR", "+") if gap.clear else ("accuracy", "")
    table = Table(title=title)
    table.add_column("method", overflow="fold")
    table.add_column("given", no_wrap=True)
    known = (score for v in verdicts if (score := v.pgr or v.accuracy) is not None)
    interval = head_of(next(known, None))
    for head in (unit, interval, "permuted", "less vanilla", "less best guard"):
        table.add_column(head, justify="right")
    for v in verdicts:
        score = v.pgr or v.accuracy
        if score is None:
            table.add_row(v.name, v.delivery, "failed")
            continue
        permuted = "" if v.permuted is None else f"{v.permuted.value:{sign}.2f}"
        less = [_less(v.beats_vanilla), _less(v.beats_guard)]
        span = f"[{score.low:{sign}.2f}, {score.high:{sign}.2f}]"
        table.add_row(v.name, v.delivery, f"{score.value:{sign}.2f}", span, permuted, *less)
    console.print(table)
    plain = {"highlight": False, "soft_wrap": True}
    if not gap.clear:
        console.print(f"{gap.said()}. {NO_PGR}.", **plain)  # type: ignore[arg-type]
    for v in verdicts:
        console.print(f"{v.name}: {_sentence(v, unit)}", **plain)  # type: ignore[arg-type]
        if v.given:
            console.print(f"  given: {v.given}", **plain)  # type: ignore[arg-type]
        for text in v.templates:
            console.print(f"  asked: {one_line(text)}", markup=False, **plain)  # type: ignore[arg-type]
        for line in v.flags:
            console.print(f"  {line}", **plain)  # type: ignore[arg-type]


def head_of(estimate: Interval | None) -> str:
    """Name the column of intervals that are all of as many seeds as this one."""
    return "95 % interval" if estimate is None or estimate.n_seeds > 1 else level(estimate)


def _less(difference: Interval | None) -> str:
    if difference is None:
        return ""
    return f"{difference.value:+.2f} [{difference.low:+.2f}, {difference.high:+.2f}]"


def _sentence(v: Verdict, unit: str) -> str:
    if v.kind == "failed":
        return f"failed: {v.error}"
    parts = [WORDS[v.kind]]
    for other, difference in (("vanilla", v.beats_vanilla), (f"guard {v.guard}", v.beats_guard)):
        if difference is not None:
            parts.append(f"{_how(difference)} {other} in {unit}")
    return "; ".join(parts)


def _how(difference: Interval) -> str:
    if difference.low > 0:
        return "clearly above"
    return "clearly below" if difference.high < 0 else "not clearly different from"
