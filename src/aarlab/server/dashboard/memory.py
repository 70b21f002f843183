"""Rows of a campaign that never change, read once and kept for the dashboard.

A page calls `refresh`, which reads only the rows since the last call. A campaign of thousands of
submissions therefore costs a page no more than one of ten. Evidence and errors of re-runs,
predictions and texts stay in the database. What is kept here is some hundred bytes per row.
"""

import asyncio
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.delivery import one_table_note
from aarlab.core.headline import Standings
from aarlab.core.joining import Frozen, snapshots_of
from aarlab.core.joining import Sent as Submitted
from aarlab.core.pgr import teacher_contribution
from aarlab.core.ranking import (
    Made,
    Role,
    RunKey,
    first_runs,
    leaderboard,
    placed,
    role_of,
    short_names,
)
from aarlab.core.showing import Look, looks_of
from aarlab.core.verdicts import Worked, standing
from aarlab.core.wire import (
    Audit,
    CaseVerdict,
    Evidence,
    LeaderboardEntry,
    NewAar,
    Verdict,
    Verification,
    Wanted,
)
from aarlab.core.wire_ledger import CampaignBudget, OperatorSpend
from aarlab.store import controls, leases, ledger, overview
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
    """Kept rows of a campaign. `refresh` fills it; everything else only reads."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []
        self.sent_of: dict[
            str, list[int]
        ] = {}  # snapshot: indices of `sent`, joined by `core.joining`
        self.snaps: dict[str, Snap] = {}
        self.audits: dict[int, Audit] = {}
        self.audits_of: defaultdict[str, list[int]] = defaultdict(list)
        self.verdicts_of: dict[str, list[Verdict]] = {}  # that stand for a snapshot
        self.cases_of: defaultdict[str, list[CaseVerdict]] = defaultdict(list)  # by finding
        self.runs: dict[int, Verification] = {}
        self.runs_of: defaultdict[str, list[int]] = defaultdict(list)
        self.n_at_work = 0  # re-runs that verification pods do
        self.aars: dict[str, NewAar] = {}
        self.research_s: dict[str, float] = {}
        self.spend: dict[str, dict[str, float]] = {}
        self.operator_spend: list[OperatorSpend] = []
        self.budget = CampaignBudget()
        self.wanted: dict[str, Wanted] = {}
        self.names: dict[str, str] = {}  # short names by snapshot
        self._cited: list[tuple[str, str, str]] = []
        self._cited_seq = 0
        self._snap_seq = self._audit_seq = self._verdict_seq = self._case_seq = 0
        self._given: list[Verdict] = []
        self._waiting: set[int] = set()
        self._boards: dict[tuple[bool, tuple[str, ...]], list[LeaderboardEntry]] = {}
        self._standings: dict[str, Standings] = {}
        self._turn = asyncio.Lock()

    async def refresh(self, tx: AsyncConnection) -> None:
        """Read in what was written since the last call. Only one page does so at a time."""
        async with self._turn:
            more = await self._read_sent(tx)
            made = await self._read_code(tx)
            cited = await self._read_cited(tx)
            changed = await self._read_runs(tx)
            changed |= await self._read_judgements(tx)
            self.n_at_work = len(await leases.running(tx, await leases.clock(tx)))
            registered = {aar.name: aar for aar in await overview.registered(tx)}
            if made or registered != self.aars:
                self.aars, changed = registered, True
                self.names = short_names(self._made(), self.core_roles())
            if more or made or cited:
                self._join()
            if changed or (more and self.cases_of):
                self._weigh()
            self.research_s = await overview.research_s(tx)
            self.spend = await ledger.spent_by_aar(tx)
            self.operator_spend = await ledger.operator_spend(tx)
            self.budget = await ledger.budget_of_campaign(tx)
            self.wanted = await controls.wanted(tx)

    def decision(self, snapshot: str) -> str | None:
        """Return the decision of the latest verdict."""
        given = self.verdicts_of.get(snapshot)
        return given[-1].decision if given else None

    def unranked(self) -> frozenset[str]:
        return frozenset(s for s in self.verdicts_of if self.decision(s) != "accepted")

    def accepted(self) -> frozenset[str]:
        return frozenset(s for s in self.verdicts_of if self.decision(s) == "accepted")

    def board(self, tasks: list[str], ranked_only: bool) -> list[LeaderboardEntry]:
        """Return the leaderboard of some tasks.

        Without `ranked_only`, verdicts do not keep any method out.
        """
        key = (ranked_only, tuple(tasks))
        if key not in self._boards:
            out = self.unranked() if ranked_only else frozenset()
            runs, roles = self._runs(), self.core_roles()
            self._boards[key] = leaderboard(runs, tasks, out, roles, self.names, self.accepted())
        return self._boards[key]

    def standings(self, task: str) -> Standings:
        """Return the verified methods of a task, for its verdict in one sentence."""
        if task not in self._standings:
            suspects = {
                a.snapshot for a in self.audits.values() if a.severity == "suspect" and a.snapshot
            }
            roles = self.core_roles()
            board = placed(self._runs(), task, self.unranked(), roles, self.accepted())
            undecided = suspects - self.verdicts_of.keys()
            self._standings[task] = Standings(board, self.names, undecided)
        return self._standings[task]

    def one_table_note(self, task: str) -> str:
        """Return that all methods of a task were verified with texts; empty if some were blind."""
        return one_table_note(self.runs.values(), task)

    def contribution(self, snapshot: str, task: str) -> float | None:
        """Return the teacher contribution on the selection split; None if it is not defined."""
        first = first_runs(self.runs_for(snapshot))
        true, permuted = (
            first.get(RunKey(task, snapshot, "selection", kind)) for kind in ("none", "permuted")
        )
        if true is None or permuted is None:
            return None
        return teacher_contribution(true.estimate, permuted.estimate)

    def looks(self) -> dict[str, Look]:
        """Return the colour of each AAR, as in the report."""
        return looks_of(name for name, role in self.core_roles().items() if role == "aar")

    def runs_for(self, snapshot: str) -> list[Verification]:
        return [self.runs[seq] for seq in self.runs_of.get(snapshot, [])]

    def audits_for(self, snapshot: str) -> list[Audit]:
        return [self.audits[seq] for seq in self.audits_of.get(snapshot, [])]

    def roles(self) -> dict[str, str]:
        """Return what each AAR is: human, guard, control or language."""
        return {name: kind_of(aar) for name, aar in self.aars.items()}

    def core_roles(self) -> dict[str, Role]:
        return {name: role_of(aar.researcher, aar.arm) for name, aar in self.aars.items()}

    def _runs(self) -> list[Verification]:
        return [self.runs[seq] for seq in sorted(self.runs)]

    def _made(self) -> Iterator[Made]:
        return (Made(snap.id, snap.aar, snap.name) for snap in self.snaps.values())

    def _join(self) -> None:
        joined = snapshots_of(
            (Submitted(s.id, s.aar, s.method, s.snapshot) for s in self.sent),
            (Frozen(s.id, s.aar, s.name) for s in self.snaps.values()),
            self._cited,
        )
        self.sent_of = {}
        for place, sent in enumerate(self.sent):
            if sent.id in joined:
                self.sent_of.setdefault(joined[sent.id], []).append(place)

    def _weigh(self) -> None:
        """Work out which verdicts stand, and so what ranks."""
        cases = sorted((c for given in self.cases_of.values() for c in given), key=lambda c: c.at)
        self.verdicts_of = standing(self._given, cases, self._worked())
        self._boards.clear()
        self._standings.clear()

    def _worked(self) -> Iterator[Worked]:
        for sent in self.sent:
            if sent.snapshot in self.snaps:
                yield Worked(self.snaps[sent.snapshot].aar, sent.task, sent.snapshot)
        for run in self.runs.values():
            yield Worked(run.aar, run.task, run.snapshot)

    async def _read_sent(self, tx: AsyncConnection) -> bool:
        found = await overview.sent_after(tx, self.sent[-1].seq if self.sent else 0)
        self.sent += found
        return bool(found)

    async def _read_cited(self, tx: AsyncConnection) -> bool:
        found = await overview.cited_after(tx, self._cited_seq)
        for seq, author, submission, snapshot in found:
            self._cited.append((author, submission, snapshot))
            self._cited_seq = seq
        return bool(found)

    async def _read_code(self, tx: AsyncConnection) -> bool:
        before = len(self.snaps)
        for seq, made in await overview.snapshots_after(tx, self._snap_seq):
            self.snaps[made.id] = Snap(
                made.id, made.aar, made.name, made.message, made.parent, made.at
            )
            self._snap_seq = seq
        return len(self.snaps) > before

    async def _read_runs(self, tx: AsyncConnection) -> bool:
        found = await overview.runs_after(tx, max(self.runs, default=0), self._waiting)
        changed = False
        for seq, run in found:
            if seq not in self.runs:
                self.runs_of[run.snapshot].append(seq)
            changed |= seq not in self.runs or self.runs[seq].state != run.state
            brief = {"evidence": _kept(run.evidence), "error": run.error[:MAX_ERROR]}
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


def _kept(evidence: Evidence | None) -> Evidence | None:
    """Return what a figure's stamps need of the evidence; None if that is nothing."""
    if evidence is None or not (evidence.answer_equality or evidence.templates):
        return None
    nothing: dict[str, object] = {
        "programs": [],
        "reached": [],
        "examples": [],
        "changed": {},
        "style": None,
    }
    return evidence.model_copy(update=nothing)


def kind_of(aar: NewAar) -> str:
    """Return the role of an AAR record, with AARs split into "control" and "language".

    Random and evolutionary search are controls.
    """
    role = role_of(aar.researcher, aar.arm)
    if role != "aar":
        return role
    return "control" if aar.researcher in ("random", "evolutionary") else "language"
