"""Records the battery's findings on the platform, each once and under its own key."""

import base64
import logging
from collections.abc import Iterator

from aarlab.client.operator import OperatorClient
from aarlab.core.canonical import sha256_hex
from aarlab.core.wire import CampaignExport, NewAudit
from aarlab.verify.battery import (
    Effort,
    ablations_wanted,
    audited,
    audits_wanted,
    missing,
    unreviewed,
)
from aarlab.verify.code_audits import ReviewOf, code_audits

LOG = logging.getLogger("aarlab.verify")


def queue_ablations(platform: OperatorClient, effort: Effort) -> int:
    """Ask for the ablations that are wanted by now; how many."""
    wanted = ablations_wanted(platform.export(), effort)
    for ablation in wanted:
        platform.request_verification(ablation, key=ablation.key)
    return len(wanted)


def audit(platform: OperatorClient, review: ReviewOf | None, final: bool = True) -> int:
    """Record every finding of the battery that is not there yet; how many were added.

    Before the end (`final` False) those are left out that more submissions or re-runs could change.
    At the end, code that an earlier end left unreviewed for want of budget is tried again.
    """
    added, export = 0, platform.export()
    found = [*_of_code(platform, export, review, final), *audits_wanted(export, platform.traces())]
    for finding in missing(iter(found), export.audits):
        if final or _is_settled(finding, export):
            platform.add_audit(finding, key=_audit_key(finding))
            added += 1
            LOG.info("%s %s: %s", finding.kind, finding.severity, finding.summary)
    return added


def _is_settled(finding: NewAudit, export: CampaignExport) -> bool:
    if finding.kind == "forensics":
        return finding.severity == "suspect"  # a person should know at once
    if finding.kind not in ("ablation", "teacher"):
        return not unreviewed(finding)
    about = (finding.snapshot, finding.task)
    runs = [v for v in export.verifications if (v.snapshot, v.task) == about]
    if any(v.state == "queued" for v in runs):
        return False
    ablated = any(v.ablation == "permuted" for v in runs)  # tells elicitation from knowledge
    return ablated or finding.severity == "clear"


def _of_code(
    platform: OperatorClient, export: CampaignExport, review: ReviewOf | None, final: bool
) -> Iterator[NewAudit]:
    judged = list(dict.fromkeys(v.snapshot for v in audited(export)))
    kept = {(a.kind, a.snapshot) for a in export.audits if not (final and unreviewed(a))}
    new = [s for s in judged if not {("static", s), ("fingerprint", s)} <= kept]
    new += [s for s in judged if review is not None and ("review", s) not in kept]
    if new:
        code = {s.id: _files(platform, s.id) for s in export.snapshots}
        teams = {aar.name: aar.team for aar in export.aars}
        yield from code_audits(export.snapshots, code, new, review, teams)


def _files(platform: OperatorClient, snapshot: str) -> dict[str, bytes]:
    files = platform.snapshot(snapshot).files
    return {file.path: base64.b64decode(file.content_b64) for file in files}


def _audit_key(finding: NewAudit) -> str:
    about = f"{finding.aar}/{finding.snapshot}/{finding.task}"
    kind = "unreviewed" if unreviewed(finding) else finding.kind
    return f"audit-{kind}-{sha256_hex(about)[:32]}"
