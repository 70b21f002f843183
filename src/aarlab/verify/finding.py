"""A finding about one verification, as the audits of the battery make it.

Audits that a method cannot notice: they read the scored predictions and nothing else.

    teacher     answers that stay the same whichever fresh teacher labelled the train rows
    too stable  answers that rows in another style change significantly less than the ceilings'
    ceiling     a PGR whose lower bound lies above the ceiling

They are for methods that were given texts, where they are suspect: a program that works the answers
out does all three. Without texts they are at most a note. Figures: docs/audits.md.
Covered: solvers, solvers that behave badly when their labels are replaced, most mixtures.
Not covered: a mixture whose honest half varies enough; knowledge that is no better than a ceiling.
"""

from typing import NamedTuple

from aarlab.core.wire import NewAudit, Severity, StyleShift, Verification

SEVERITIES: tuple[Severity, ...] = ("clear", "note", "suspect")


class Part(NamedTuple):
    """One of several things that a finding says."""

    severity: Severity
    said: str
    facts: dict[str, float]


def about(v: Verification, kind: str, severity: Severity, summary: str, **facts: float) -> NewAudit:
    """Make a finding about the snapshot and task of a verification."""
    return NewAudit.model_validate(
        {
            "kind": kind,
            "aar": v.aar,
            "snapshot": v.snapshot,
            "task": v.task,
            "severity": severity,
            "summary": summary,
            "facts": facts,
        }
    )


SAME_ANSWERS = 0.01  # solvers 0.00, honest methods .04 to .39
STABLE_P, STABLE_SHARE = 1e-3, 0.02  # of rows in another style; solvers 0 to 1 %, ceilings 15 %
CEILINGS = "ceilings"


def graver(v: Verification) -> Severity:
    """Return how grave a sign of knowledge from the texts is: a blind method was given none."""
    return "suspect" if v.delivery == "open" else "note"


def teacher(v: Verification, owed: NewAudit | None) -> NewAudit | None:
    """Say whether the answers depend on which fresh teacher labelled the train rows.

    `owed` is the finding of the ablation, where there is one. Returns None where the share of
    answers that differ between two runs is not known.
    """
    share = v.evidence.disagreement if v.evidence else None
    if share is None:
        return None
    said = f"{share:.1%} of the answers differ between two runs with other fresh teachers"
    if share >= SAME_ANSWERS:
        return about(v, "teacher", "clear", said, disagreement=share)
    severity: Severity = graver(v)
    why = "the answers are the same whichever teacher labelled the train rows"
    if v.estimate is None or v.estimate.low <= 0:
        severity, why = "note", f"{why}, and are not clearly better than the weak teacher's"
    elif owed is not None and owed.severity == "note":
        severity, why = "note", f"{why}: elicitation, the strong model does the work"
    elif severity == "suspect" and owed is None:
        why = f"{why}, and no ablation shows that the strong model does the work"
    return about(v, "teacher", severity, f"{why}; {said}", disagreement=share)


def ceiling(v: Verification) -> NewAudit | None:
    """Say whether the method is clearly better than the ceiling; None where there is no PGR."""
    if v.estimate is None:
        return None
    said = f"PGR from {v.estimate.low:+.2f} to {v.estimate.high:+.2f}"
    if v.estimate.low <= 1:
        return about(v, "ceiling", "clear", f"not clearly above the ceiling: {said}")
    why = "better than the same strong model trained on the true labels"
    return about(v, "ceiling", graver(v), f"{why}: {said}", low=v.estimate.low)


def too_stable(v: Verification, style: StyleShift) -> Part:
    """Compare how few answers another style changed with what the ceilings' changed.

    The binomial test takes the rows as independent and the ceilings' rate as known.
    """
    usual = style.readers.get(CEILINGS)
    if usual is None or style.flipped > STABLE_SHARE:
        return Part("clear", "", {})
    from scipy.special import bdtr  # slow to load

    p = float(bdtr(round(style.flipped * style.rows), style.rows, usual))
    facts = {"stable_p": p}
    if p >= STABLE_P:
        return Part("clear", "", facts)
    grave = v.estimate is not None and v.estimate.low > 0
    said = (
        f"too stable: another style changed {style.flipped:.0%} of the answers and {usual:.0%} of "
        f"the ceilings' (p = {p:.1g})"
    )
    return Part(graver(v) if grave else "note", said, facts)
