"""All audits of the battery by name: the built-in ones, and those of installed packages.

A package adds one by an entry point that names a `BatteryAudit`:

    [project.entry-points."aarlab.audits"]
    slow = "my_package.slow:AUDIT"

Its findings are recorded, logged, exported and shown under its name as any others. AARs do not
learn of them. It runs in the verifier, when everything else is settled and recorded.
Covered: an audit gets exports and traces, which hold no label and no row; a fault of an installed
audit names its package, and loses no finding of another one.
Not covered: code that was installed runs as the verifier's user and may read its files.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from aarlab.core.errors import Damaged
from aarlab.core.registry import Registry, place_of
from aarlab.core.wire import (
    CampaignExport,
    NewAudit,
    Severity,
    Snapshot,
    Traces,
    Verification,
)
from aarlab.verify.finding import SEVERITIES

if TYPE_CHECKING:
    from aarlab.verify.review import Review

ReviewOf = Callable[[str, Mapping[str, bytes]], "Review"]  # of a snapshot's id and files
AUDIT_GROUP = "aarlab.audits"


@dataclass(frozen=True, slots=True)
class AuditedRun:
    """A settled re-run of an AAR's snapshot on selection, and the campaign that it is of."""

    run: Verification
    export: CampaignExport


@dataclass(frozen=True, slots=True)
class AuditedSubmissions:
    """How an AAR's submissions on a task relate to each other, and the campaign they are of."""

    traces: Traces
    export: CampaignExport


@dataclass(frozen=True, slots=True)
class AuditedCode:
    """A snapshot's files by path, and `earlier` snapshots of other AARs with the same code.

    `teams` maps AAR names to teams. `review` asks a language model; None where there is none.
    """

    snapshot: Snapshot
    files: Mapping[str, bytes]
    earlier: Sequence[Snapshot]
    teams: Mapping[str, str]
    review: ReviewOf | None


@dataclass(frozen=True, slots=True)
class AuditedTranscript:
    """What a language model's reading of an AAR's transcript came to: one flag, or a remark.

    `summary` says it with verbatim quotes and their lines. `facts` go into the finding.
    """

    aar: str
    severity: Severity
    summary: str
    facts: Mapping[str, float | str | list[str]]


Read = TypeVar("Read", AuditedRun, AuditedSubmissions, AuditedCode, AuditedTranscript)


@dataclass(frozen=True, slots=True)
class BatteryAudit(Generic[Read]):
    """One audit. `find` returns its finding, or None where it has nothing to say.

    `reads` is what `find` gets. An installed audit reads runs or submissions. `question` and
    `suspect`, when a finding is suspect, are its line in lists. `gravest` is the severity that no
    finding exceeds.
    """

    name: str
    reads: type[Read]
    question: str
    suspect: str
    find: Callable[[Read], NewAudit | None]
    gravest: Severity = "suspect"


AUDITS: Registry[BatteryAudit[Any]] = Registry(
    what="audit",
    group=AUDIT_GROUP,
    expected=BatteryAudit,
    built_in={
        "rerun": "aarlab.verify.battery:RERUN",
        "execution": "aarlab.verify.battery:EXECUTION",
        "shortcut": "aarlab.verify.battery:SHORTCUT",
        "ablation": "aarlab.verify.battery:ABLATION",
        "teacher": "aarlab.verify.battery:TEACHER",
        "ceiling": "aarlab.verify.battery:CEILING",
        "static": "aarlab.verify.auditing:STATIC",
        "fingerprint": "aarlab.verify.auditing:FINGERPRINT",
        "copy": "aarlab.verify.auditing:COPY",
        "review": "aarlab.verify.auditing:REVIEW",
        "forensics": "aarlab.verify.battery:FORENSICS",
        "transcript": "aarlab.verify.transcript_review:TRANSCRIPT",
    },
    listed_by="aarlab audit kinds",
)


def built_in_of(
    subject: AuditedRun | AuditedSubmissions | AuditedCode | AuditedTranscript,
) -> Iterator[NewAudit]:
    """Yield what the built-in audits that read this find, but for those its problem leaves out."""
    left_out: tuple[str, ...] = ()
    if isinstance(subject, AuditedRun):
        left_out = subject.export.problem_of(subject.run.task).audits_left_out
    for name in AUDITS.built_in:
        if name in left_out:
            continue
        audit = AUDITS.get(name)
        if audit.reads is type(subject) and (found := audit.find(subject)) is not None:
            yield found


def check_installed() -> None:
    """Import the audits of installed packages; raises Damaged or Conflict naming a wrong one."""
    for name in AUDITS.installed():
        if (audit := AUDITS.get(name)).reads not in (AuditedRun, AuditedSubmissions):
            where = place_of(AUDITS.installed()[name])
            raise Damaged(f"{where}: an installed audit reads AuditedRun or AuditedSubmissions")
        if audit.gravest not in SEVERITIES:
            where = place_of(AUDITS.installed()[name])
            raise Damaged(f"{where}: gravest is one of {', '.join(SEVERITIES)}")


def installed_findings(
    name: str, subjects: Sequence[AuditedRun | AuditedSubmissions]
) -> Iterator[NewAudit]:
    """Yield what an installed audit finds; raises Damaged naming its package for any fault."""
    audit, where = AUDITS.get(name), place_of(AUDITS.installed()[name])
    for subject in subjects:
        if audit.reads is not type(subject):
            continue
        try:
            found = audit.find(subject)
        except Exception as error:
            raise Damaged(
                f"{where}: this audit failed ({type(error).__name__}: {error})"
            ) from error
        if found is None:
            continue
        if not isinstance(found, NewAudit) or found.kind != name:
            raise Damaged(f"{where}: an audit returns a NewAudit of kind {name!r} or None")
        if SEVERITIES.index(found.severity) > SEVERITIES.index(audit.gravest):
            raise Damaged(f"{where}: found {found.severity}, and says {audit.gravest} at most")
        yield found
