"""A finding about one verification, as the audits of the battery make it."""

from typing import NamedTuple

from aarlab.core.wire import NewAudit, Severity, Verification

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
