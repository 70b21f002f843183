"""Verified scores across tasks: the best methods, the hand-tuned one and the guard on each task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from aarlab.core.wire import BaselineAccuracy, CampaignExport, Interval, TaskInfo, Verification
from aarlab.report.view import CampaignView, Method

SHOWN_METHODS = 5


@dataclass(frozen=True, slots=True)
class TaskColumn:
    """`same_pair` as the task that the methods were developed on."""

    task: TaskInfo
    held_out: bool
    same_pair: bool
    baseline: BaselineAccuracy | None


@dataclass(frozen=True, slots=True)
class TransferRow:
    """`cells` per column; None where the method was not verified there."""

    method: Method
    cells: tuple[Verification | None, ...]

    @property
    def estimates(self) -> tuple[Interval | None, ...]:
        return tuple(cell.estimate if cell else None for cell in self.cells)


@dataclass(frozen=True, slots=True)
class Transfer:
    columns: tuple[TaskColumn, ...]
    rows: tuple[TransferRow, ...]

    @property
    def crosses(self) -> bool:
        """Return whether any method was verified on a task other than that of its development."""
        return any(cell is not None for row in self.rows for cell in row.cells[1:])


def transfer(view: CampaignView) -> Transfer:
    """Return top methods of AARs, then baselines; the reported task first, then verified ones."""
    done = _first_done(view.export)
    columns = tuple(_columns(view, {task for _, task in done}))
    methods = [*view.standing[:SHOWN_METHODS], *view.of_role("human"), *view.of_role("guard")]
    methods = [method for method in methods if not method.apart]
    rows = (
        TransferRow(m, tuple(done.get((m.snapshot or "", c.task.name)) for c in columns))
        for m in methods
    )
    return Transfer(columns, tuple(row for row in rows if any(row.cells)))


def shown_rows(found: Transfer) -> list[TransferRow]:
    """Return rows for a figure: the top methods, the best baseline by hand and the best guard."""
    rows = [row for row in found.rows if row.method.role == "aar"]
    for role in ("human", "guard"):
        rows += [row for row in found.rows if row.method.role == role][:1]
    return rows


def held_out_tasks(export: CampaignExport) -> set[str]:
    campaign: Any = export.spec.get("campaign")
    named = campaign.get("held_out") if isinstance(campaign, dict) else None
    return {str(name) for name in named} if isinstance(named, list) else set()


def _columns(view: CampaignView, verified: set[str]) -> list[TaskColumn]:
    if view.task is None:
        return []
    hidden = held_out_tasks(view.export)
    others = [t for t in view.export.tasks if t.name != view.task.name and t.name in verified]
    return [
        TaskColumn(
            task,
            task.name in hidden,
            task.pair == view.task.pair,
            selection_baseline(view.export.baselines, task.name),
        )
        for task in (view.task, *others)
    ]


def selection_baseline(baselines: Sequence[BaselineAccuracy], task: str) -> BaselineAccuracy | None:
    return next((b for b in baselines if (b.task, b.split) == (task, "selection")), None)


def _first_done(export: CampaignExport) -> dict[tuple[str, str], Verification]:
    """Return runs by snapshot and task.

    The earliest counts, so that repeating cannot improve a number.
    """
    found: dict[tuple[str, str], Verification] = {}
    for v in sorted(export.verifications, key=lambda v: v.at):
        if v.estimate is not None and (v.split, v.ablation) == ("selection", "none"):
            found.setdefault((v.snapshot, v.task), v)
    return found
