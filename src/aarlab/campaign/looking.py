"""What the supervisor knows of its campaign, kept and brought up to date by changes.

One request says what happened since the last look. Lists are asked for again only where an entry of
their kind was logged, so a look costs as much as has changed, not as much as there is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from aarlab.client.operator import OperatorClient
from aarlab.core.wire import AarRecord, Audit, CaseVerdict, Verdict
from aarlab.core.wire_ledger import CampaignBudget, Control
from aarlab.core.wire_service import MethodRecord

CAMPAIGN = frozenset({"control", "budget"})
RERUNS = frozenset({"method", "method_refused", "verification", "verified"})


@dataclass
class Known:
    """Everything that a look is about. A refresh that fails leaves it as it was."""

    controls: list[Control] = field(default_factory=list)
    budget: CampaignBudget = field(default_factory=CampaignBudget)
    audits: list[Audit] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)
    case_verdicts: list[CaseVerdict] = field(default_factory=list)
    requests: list[MethodRecord] = field(default_factory=list)
    queued: set[str] = field(default_factory=set)  # re-runs
    _aars: dict[str, AarRecord] = field(default_factory=dict)
    _cursor: tuple[int, str] = (0, "")

    @property
    def aars(self) -> Sequence[AarRecord]:
        return list(self._aars.values())

    def refresh(self, operator: OperatorClient) -> None:
        """Ask what happened since the last look. Raises what the client raises."""
        changes = operator.changes(*self._cursor)
        first = not self._cursor[1]
        asked: list[tuple[frozenset[str], dict[str, Callable[[], Any]]]] = [
            (CAMPAIGN, {"controls": operator.controls, "budget": operator.budget}),
            (frozenset({"audit"}), {"audits": operator.audits}),
            (frozenset({"verdict"}), {"verdicts": operator.verdicts}),
            (frozenset({"case_verdict"}), {"case_verdicts": operator.case_verdicts}),
            (RERUNS, {"requests": operator.method_requests, "queued": lambda: _queued(operator)}),
        ]
        found = {
            name: ask()
            for kinds, lists in asked
            if first or kinds & set(changes.kinds)
            for name, ask in lists.items()
        }
        for name, value in found.items():
            setattr(self, name, value)
        self._aars |= {aar.name: aar for aar in changes.aars}
        self._cursor = (changes.seq, changes.seen)


def _queued(operator: OperatorClient) -> set[str]:
    return {run.id for run in operator.verifications("queued")}
