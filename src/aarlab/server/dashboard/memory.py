"""What the dashboard remembers of a campaign: rows that never change, read once.

A page asks `refresh`, which reads the rows since the last look; so a campaign of thousands of
submissions costs a page no more than one of ten. Evidence and errors of re-runs, predictions and
texts stay in the database: what is kept here is some hundred bytes a row.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.verdicts import Worked, standing
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    LeaderboardEntry,
    NewAar,
    Verdict,
    Verification,
    Wanted,
)
from aarlab.core.wire_ledger import CampaignBudget, OperatorSpend
from aarlab.store import budgets, controls, operator_calls, overview, verifications
from aarlab.store.overview import Sent

MAX_ERROR = 200


@dataclass(frozen=True, slots=True)
class Snap:
    """The head of a snapshot."""

    id: str
    aar: str
    name: str
    message: str
    parent: str | None
    at: str


class Memory:
    """Filled by `refresh`; everything else only reads."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.sent_of: defaultdict[str, list[int]] = defaultdict(list)  # snapshot: places in `sent`
        self.snaps: dict[str, Snap] = {}
        self.audits: dict[int, Audit] = {}
        self.audits_of: defaultdict[str, list[int]] = defaultdict(list)
        self.verdicts_of: dict[str, list[Verdict]] = {}  # that stand for a snapshot
        self.cases_of: defaultdict[str, list[CaseVerdict]] = defaultdict(list)  # by finding
        self.runs: dict[int, Verification] = {}
        self.runs_of: defaultdict[str, list[int]] = defaultdict(list)
        self.aars: dict[str, NewAar] = {}
        self.research_s: dict[str, float] = {}
        self.spend: dict[str, dict[str, float]] = {}
        self.operator_spend: list[OperatorSpend] = []
        self.budget = CampaignBudget()
        self.wanted: dict[str, Wanted] = {}
        self._snap_seq = self._audit_seq = self._verdict_seq = self._case_seq = 0
        self._given: list[Verdict] = []
        self._waiting: set[int] = set()
        self._boards: dict[tuple[bool, tuple[str, ...]], list[LeaderboardEntry]] = {}
        self._turn = asyncio.Lock()

    async def refresh(self, tx: AsyncConnection) -> None:
        """Bring in what was written since; one page at a time."""
        async with self._turn:
            more = await self._read_sent(tx)
            await self._read_code(tx)
            changed = await self._read_runs(tx)
            changed |= await self._read_judgements(tx)
            if changed or (more and self.cases_of):
                self._weigh()
            self.aars = {aar.name: aar for aar in await overview.registered(tx)}
            self.research_s = await overview.research_s(tx)
            self.spend = await overview.spend_by_aar(tx)
            self.operator_spend = await operator_calls.spend(tx)
            self.budget = await budgets.get(tx)
            self.wanted = await controls.wanted(tx)

    def decision(self, snapshot: str) -> str | None:
        """The latest verdict's."""
        given = self.verdicts_of.get(snapshot)
        return given[-1].decision if given else None

    def unranked(self) -> frozenset[str]:
        return frozenset(s for s in self.verdicts_of if self.decision(s) != "accepted")

    def board(self, tasks: list[str], ranked_only: bool) -> list[LeaderboardEntry]:
        """The leaderboard of some tasks; without `ranked_only`, as if there were no verdict."""
        key = (ranked_only, tuple(tasks))
        if key not in self._boards:
            out = self.unranked() if ranked_only else frozenset()
            runs = [self.runs[seq] for seq in sorted(self.runs)]
            self._boards[key] = verifications.leaderboard(runs, tasks, out)
        return self._boards[key]

    def runs_for(self, snapshot: str) -> list[Verification]:
        return [self.runs[seq] for seq in self.runs_of.get(snapshot, [])]

    def audits_for(self, snapshot: str) -> list[Audit]:
        return [self.audits[seq] for seq in self.audits_of.get(snapshot, [])]

    def roles(self) -> dict[str, str]:
        """AARs by what they are: human, guard, control or language."""
        return {name: role_of(aar.researcher) for name, aar in self.aars.items()}

    def _weigh(self) -> None:
        """Which verdicts stand, and so what ranks."""
        cases = sorted((c for given in self.cases_of.values() for c in given), key=lambda c: c.at)
        self.verdicts_of = standing(self._given, cases, self._worked())
        self._boards.clear()

    def _worked(self) -> Iterator[Worked]:
        for sent in self.sent:
            if sent.snapshot in self.snaps:
                yield Worked(self.snaps[sent.snapshot].aar, sent.task, sent.snapshot)
        for run in self.runs.values():
            yield Worked(run.aar, run.task, run.snapshot)

    async def _read_sent(self, tx: AsyncConnection) -> bool:
        found = await overview.sent_after(tx, self.sent[-1].seq if self.sent else 0)
        for sent in found:
            if sent.snapshot is not None:
                self.sent_of[sent.snapshot].append(len(self.sent))
            self.sent.append(sent)
        return bool(found)

    async def _read_code(self, tx: AsyncConnection) -> None:
        for seq, made in await overview.snapshots_after(tx, self._snap_seq):
            self.snaps[made.id] = Snap(
                made.id, made.aar, made.name, made.message, made.parent, made.at
            )
            self._snap_seq = seq

    async def _read_runs(self, tx: AsyncConnection) -> bool:
        found = await overview.runs_after(tx, max(self.runs, default=0), self._waiting)
        changed = False
        for seq, run in found:
            if seq not in self.runs:
                self.runs_of[run.snapshot].append(seq)
            changed |= seq not in self.runs or self.runs[seq].state != run.state
            brief = {"evidence": None, "error": run.error[:MAX_ERROR]}
            self.runs[seq] = run.model_copy(update=brief)
            (self._waiting.add if run.state == "queued" else self._waiting.discard)(seq)
        return changed

    async def _read_judgements(self, tx: AsyncConnection) -> bool:
        found = await overview.audits_after(tx, self._audit_seq)
        for seq, audit in found:
            kept = {k: v for k, v in audit.facts.items() if isinstance(v, float | int)}
            self.audits[seq] = audit.model_copy(update={"facts": kept})
            self.audits_of[audit.snapshot or ""].append(seq)
            self._audit_seq = seq
        given = await overview.verdicts_after(tx, self._verdict_seq)
        for seq, verdict in given:
            self._given.append(verdict)
            self._verdict_seq = seq
        cases = await overview.case_verdicts_after(tx, self._case_seq)
        for seq, case in cases:
            self.cases_of[case.audit].append(case)
            self._case_seq = seq
        return bool(found or given or cases)


def role_of(researcher: str) -> str:
    """Researchers that a campaign calls human or guard are baselines; random search a control."""
    if researcher in ("human", "guard"):
        return researcher
    return "control" if researcher in ("random", "evolutionary") else "language"
