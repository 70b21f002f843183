"""The leaderboard: verified methods with what else is known of each."""

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from pydantic import AfterValidator, BaseModel, Field

from aarlab.core.delivery import APART_IN_WORDS
from aarlab.core.headline import VANILLA, drop_in_words
from aarlab.core.ranking import against
from aarlab.core.wire import LeaderboardEntry, Verification
from aarlab.server.dashboard.curve import axis_of, bar
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import ViewerDep

Facts = dict[str, Any]
PAGE = 50
GRAVITY = {"suspect": 0, "note": 1, "clear": 2}
MAX_FLAGS = 4


def _given(text: str | None) -> str | None:
    return text or None


Choice = Annotated[str | None, Field(max_length=200), AfterValidator(_given)]


class Filter(BaseModel):
    """What to show. None means everything, and so does an empty field of a form."""

    task: Choice = None
    aar: Choice = None
    family: Choice = None
    flagged: bool = False


def leaderboard_view(desk: Desk, wanted: Filter, operator: bool, page: int) -> Facts:
    """Return one page of entries.

    Held-out tasks and certify scores are for the operator.
    """
    tasks = desk.tasks(operator)
    entries = _ordered(desk, [wanted.task] if wanted.task in tasks else tasks)
    kept = [(rank, entry) for rank, entry in entries if _fits(desk, entry, wanted)]
    part = kept[page * PAGE : (page + 1) * PAGE]
    guards = best_guards(desk, tasks)
    shown = [_entry(desk, rank, entry, guards, operator) for rank, entry in part]
    axis = axis_of(v for e in shown for v in (e["low"], e["high"]))
    for entry in shown:
        entry["bar"] = bar(axis, entry["pgr"], entry["low"], entry["high"])
    return {
        "entries": shown,
        "n_entries": len(kept),
        "page": page,
        "pages": max(-(-len(kept) // PAGE), 1),
        "tasks": tasks,
        "aars": sorted({entry.aar for _, entry in entries}),
        "families": sorted({desk.families.of(entry.snapshot) for _, entry in entries}),
        "held_out": desk.tasks(True)[len(desk.tasks(False)) :] if operator else [],
        "tried": {task: _tried(desk, task) for task in tasks},
        "withheld": False,
        "one_table": {task: said for task in tasks if (said := desk.memory.one_table_note(task))},
        "apart_in_words": APART_IN_WORDS,
        "drop_in_words": drop_in_words(desk.problem),
    }


def withheld(desk: Desk) -> Facts:
    """Return the page without its entries, for a share link while the campaign runs."""
    nothing: Facts = {"entries": [], "aars": [], "families": [], "held_out": [], "tried": {}}
    page: Facts = {
        "drop_in_words": drop_in_words(desk.problem),
        "n_entries": 0,
        "page": 0,
        "pages": 1,
        "tasks": desk.tasks(operator=False),
    }
    return {**nothing, **page, "withheld": True}


def _ordered(desk: Desk, tasks: list[str]) -> list[tuple[int | None, LeaderboardEntry]]:
    """List the methods of each task, those out by a verdict last, then all that stand apart so."""
    found: list[tuple[int | None, LeaderboardEntry]] = []
    for task in tasks:
        ranked = desk.memory.board([task], ranked_only=True)
        inside = {entry.snapshot for entry in ranked}
        found += [(entry.rank, entry) for entry in ranked]
        everything = desk.memory.board([task], ranked_only=False)
        found += [(None, entry) for entry in everything if entry.snapshot not in inside]
    return sorted(found, key=lambda each: each[1].apart)


def _fits(desk: Desk, entry: LeaderboardEntry, wanted: Filter) -> bool:
    if wanted.aar not in (None, entry.aar):
        return False
    if wanted.family not in (None, desk.families.of(entry.snapshot)):
        return False
    return not wanted.flagged or bool(flags(desk, entry.snapshot))


def _tried(desk: Desk, task: str) -> int:
    board = desk.memory.board([task], ranked_only=False)
    return board[0].n_tried if board else 0


def best_guards(desk: Desk, tasks: list[str]) -> dict[str, LeaderboardEntry]:
    """Return the guard baseline with the highest figure of each task."""
    roles, best = desk.memory.roles(), dict[str, LeaderboardEntry]()
    for entry in desk.memory.board(tasks, ranked_only=True):
        known = best.get(entry.task)
        if roles.get(entry.aar) == "guard" and (known is None or entry.pgr > known.pgr):
            best[entry.task] = entry
    return best


def _entry(
    desk: Desk,
    rank: int | None,
    entry: LeaderboardEntry,
    guards: dict[str, LeaderboardEntry],
    operator: bool,
) -> Facts:
    memory, guard = desk.memory, guards.get(entry.task)
    return {
        **entry.model_dump(),
        "rank": rank,
        "out": memory.decision(entry.snapshot) not in (None, "accepted"),
        "unranked": unranked(desk, entry, rank),
        "role": memory.roles().get(entry.aar, "language"),
        "family": desk.families.of(entry.snapshot),
        "search": search_score(desk, entry.snapshot, entry.task, operator),
        "drop": _drop(desk, entry, operator),
        "against_guard": against_guard(desk, entry),
        "guard": None if guard is None else {"method": guard.short, "pgr": guard.pgr},
        "audited": bool(memory.audits_of.get(entry.snapshot)),
        "flags": flags(desk, entry.snapshot),
        "contribution": memory.contribution(entry.snapshot, entry.task),
        "verdict": memory.decision(entry.snapshot),
        "elsewhere": elsewhere(desk, entry.snapshot, entry.task) if operator else [],
    }


def against_guard(desk: Desk, entry: LeaderboardEntry) -> str:
    """Return "above", "unclear" or "below" the best guard, as in the report.

    Returns "" for baselines, and if there is no guard.
    """
    board = desk.memory.standings(entry.task).board
    guards = (line for line in board if line.role == "guard" and not line.kept_out)
    guard = max(guards, key=lambda line: line.estimate.value, default=None)
    mine = next((line for line in board if line.run.snapshot == entry.snapshot), None)
    if guard is None or mine is None or mine.role != "aar":
        return ""
    return against(mine.estimate, guard.estimate, entry.n_tried)


def unranked(desk: Desk, entry: LeaderboardEntry, rank: int | None) -> bool:
    """Say that a method of an AAR has no rank because it is not clearly above the weak teacher."""
    memory = desk.memory
    judged = memory.decision(entry.snapshot) in (None, "accepted")
    return rank is None and judged and memory.core_roles().get(entry.aar, "aar") == "aar"


def _drop(desk: Desk, entry: LeaderboardEntry, operator: bool) -> Facts | None:
    """Search minus selection, as in `core.drops`: the method's own, vanilla's and their difference.

    None without a search score; `vanilla` is None where vanilla was not run on both splits.
    """
    search = search_score(desk, entry.snapshot, entry.task, operator)
    if search is None:
        return None
    own = search - _selection(desk, entry, operator)
    vanilla = _vanilla_drop(desk, entry.task, operator)
    return {"own": own, "vanilla": vanilla, "value": own - (vanilla or 0.0)}


def _vanilla_drop(desk: Desk, task: str, operator: bool) -> float | None:
    """Search minus selection of the vanilla baseline; None if it lacks one of them."""
    roles = desk.memory.core_roles()
    for entry in desk.memory.board([task], ranked_only=False):
        if entry.method == VANILLA and roles.get(entry.aar, "aar") != "aar":
            search = search_score(desk, entry.snapshot, task, operator)
            if search is not None:
                return search - _selection(desk, entry, operator)
    return None


def _selection(desk: Desk, entry: LeaderboardEntry, operator: bool) -> float:
    """Return the PGR on selection: exact for the operator, as the report has it, else rounded."""
    board = desk.memory.standings(entry.task).board if operator else ()
    mine = (line.estimate.value for line in board if line.run.snapshot == entry.snapshot)
    return next(mine, entry.pgr)


def search_score(desk: Desk, snapshot: str, task: str, operator: bool) -> float | None:
    """Return the best search PGR of the snapshot.

    It is exact for the operator; others get it as its AAR saw it.
    """
    values = []
    for place in desk.memory.sent_of.get(snapshot, []):
        sent = desk.memory.sent[place]
        if sent.task == task:
            exact = operator and place < len(desk.exact)
            values.append(float(desk.exact.values[place]) if exact else sent.shown)
    known = [value for value in values if value == value]
    return round(max(known), 3) if known else None


def flags(desk: Desk, snapshot: str) -> list[Facts]:
    """Return what the audits did not clear, gravest first, each kind once."""
    found: dict[str, str] = {}
    for audit in sorted(desk.memory.audits_for(snapshot), key=lambda a: GRAVITY[a.severity]):
        if audit.severity != "clear":
            found.setdefault(audit.kind, audit.severity)
    return [{"kind": kind, "severity": severity} for kind, severity in found.items()][:MAX_FLAGS]


def elsewhere(desk: Desk, snapshot: str, task: str) -> list[Facts]:
    """Return certify scores and scores on held-out tasks, for the operator only."""
    held_out = set(desk.tasks(True)) - set(desk.tasks(False))
    found = []
    for run in desk.memory.runs_for(snapshot):
        other = run.split == "certify" or (run.task in held_out and run.task != task)
        if other and run.ablation == "none" and run.estimate is not None:
            found.append(_score(run))
    return found


def _score(run: Verification) -> Facts:
    assert run.estimate is not None
    value = run.estimate
    return {
        "task": run.task,
        "split": run.split,
        "pgr": value.value,
        "low": value.low,
        "high": value.high,
    }


router = APIRouter(include_in_schema=False)


class Asked(Filter):
    """A filter with the position in the list. Every page takes `format`."""

    page: Annotated[int, Field(ge=0, le=10_000)] = 0


@router.get("/leaderboard")
async def leaderboard(
    request: Request,
    desk: DeskDep,
    viewer: ViewerDep,
    wanted: Annotated[Asked, Query()],
) -> Response:
    async with desk.platform.store.database.read() as tx:
        await desk.memory.refresh(tx)
    desk.families.wake()
    if viewer.operator:
        desk.exact.wake()
    if await desk.shows_figures(viewer.operator):
        facts = leaderboard_view(desk, wanted, viewer.operator, wanted.page)
    else:
        facts = withheld(desk)
    return page(request, viewer, "leaderboard", {**facts, "shown": wanted.model_dump()})
