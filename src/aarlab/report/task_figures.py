"""Figures across tasks: transfer of the top methods, and the accuracies that PGR is made of."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aarlab.report.drawing import (
    ACCENT,
    FAINT,
    INK,
    MUTED,
    PAPER,
    KeyEntry,
    draw_key,
    house_style,
    label,
    new_figure,
    placed,
    plain,
    row_frame,
)
from aarlab.report.transfer import TaskColumn, Transfer, TransferRow, shown_rows, transfer
from aarlab.report.view import CampaignView

ROW_IN, NAME_IN = 0.38, 2.45
SHOWN_TASKS = 4
LOWEST, HIGHEST = -1.0, 1.5
"""A PGR outside is drawn at the edge: on a small gap one bad method would flatten the rest."""

SIGNS = {"aar": ("o", ACCENT, ACCENT), "human": ("s", INK, INK), "guard": ("s", PAPER, INK)}
KEY = [
    KeyEntry("method of an AAR", "o", ACCENT, ACCENT),
    KeyEntry("best by hand", "s", INK, INK),
    KeyEntry("best guard", "s", PAPER, INK),
]


def transfer_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw a panel per task, a row per method: verified selection PGR with its 95 % interval.

    None where no method was verified on a second task.
    """
    found = transfer(view)
    if not found.crosses:
        return None
    rows, n = shown_rows(found), min(len(found.columns), SHOWN_TASKS)
    height = len(rows) * ROW_IN
    with house_style():
        if wide:
            figure = new_figure(9.4, height + 1.35)
            room = (9.25 - NAME_IN) / n
            ends = [(NAME_IN + k * room, NAME_IN + (k + 1) * room - 0.25) for k in range(n)]
            frames = [(0.5, 0.85)] * n
        else:
            each = height + 1.0
            figure = new_figure(4.3, each * n + 0.45)
            ends = [(1.55, 4.15)] * n
            frames = [(0.5 + each * (n - 1 - k), 0.85 + each * k) for k in range(n)]
        for k, column in enumerate(found.columns[:n]):
            axes = placed(figure, ends[k], frames[k])
            _draw_column(axes, column, rows, k)
            if k == 0 or not wide:
                _name_rows(axes, rows, 30 if wide else 20)
        draw_key(figure, 0.1, 0.16, KEY)
        return figure


def _draw_column(axes: Axes, column: TaskColumn, rows: list[TransferRow], index: int) -> None:
    row_frame(axes, len(rows))
    estimates = [row.estimates[index] for row in rows]
    edges = [v for e in estimates if e for v in (e.low, e.high)]
    low = max(min([0.0, *edges]), LOWEST)
    high = min(max([0.2, *edges]), HIGHEST)
    room = 0.05 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    for at, (row, estimate) in enumerate(zip(rows, estimates, strict=True)):
        if estimate is None:
            label(
                axes,
                0.5,
                at,
                "not verified",
                transform=axes.get_yaxis_transform(),
                ha="center",
                va="center",
                fontsize=7.2,
                color=MUTED,
            )
            continue
        marker, face, edge = SIGNS[row.method.role]
        ends = [min(max(value, low), high) for value in (estimate.low, estimate.high)]
        axes.plot(ends, [at, at], color=edge, linewidth=1.2, alpha=0.7, zorder=2)
        outside = not low <= estimate.value <= high
        axes.plot(
            min(max(estimate.value, low), high),
            at,
            marker=marker if not outside else ("<" if estimate.value < low else ">"),
            markersize=6,
            markerfacecolor=face,
            markeredgecolor=edge,
            markeredgewidth=1.1,
            linestyle="none",
            zorder=3,
        )
    axes.set_xlabel(column.task.problem.figure)
    _title(axes, column, index)


def _title(axes: Axes, column: TaskColumn, index: int) -> None:
    kind = "developed on" if index == 0 else "held out" if column.held_out else "other task"
    said = kind if column.same_pair else f"{kind}, pair {plain(column.task.pair, 16)}"
    place = axes.transAxes
    name = plain(column.task.name, 22)
    label(axes, 0, 1.0, f"{name}\n", transform=place, va="bottom", fontsize=9, fontweight="bold")
    label(axes, 0, 1.015, said, transform=place, va="bottom", fontsize=7.8, color=MUTED)


def _name_rows(axes: Axes, rows: list[TransferRow], limit: int) -> None:
    for at, row in enumerate(rows):
        rank = f"{row.method.rank}. " if row.method.rank else ""
        label(
            axes,
            -0.03,
            at,
            rank + plain(row.method.short, limit),
            transform=axes.get_yaxis_transform(),
            ha="right",
            va="center",
            fontsize=8.3,
        )


def accuracy_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw a row per task: the accuracies on selection. None without baselines of that split.

    They are of the weak teacher, the ceiling, the best by hand, the best guard and the best method.
    """
    found = transfer(view)
    columns = [(k, c) for k, c in enumerate(found.columns) if c.baseline is not None]
    if not columns:
        return None
    with house_style():
        height = len(columns) * 0.5
        figure = new_figure(9.4 if wide else 4.3, height + 1.2)
        axes = placed(figure, (1.6, 8.9) if wide else (1.0, 4.1), (0.5, 0.5))
        row_frame(axes, len(columns))
        for at, (index, column) in enumerate(columns):
            _draw_accuracies(axes, at, found, index, column)
            label(
                axes,
                -0.02,
                at,
                plain(column.task.name, 18 if wide else 10),
                transform=axes.get_yaxis_transform(),
                ha="right",
                va="center",
            )
        axes.set_xlabel("Accuracy on the selection split")
        weak = KeyEntry("weak teacher", "|", MUTED, MUTED)
        ceiling = KeyEntry("ceiling", "|", INK, INK)
        draw_key(figure, 0.1, 0.16, [weak, ceiling, *KEY])
        return figure


def _draw_accuracies(axes: Axes, at: int, found: Transfer, index: int, column: TaskColumn) -> None:
    base = column.baseline
    assert base is not None
    axes.plot(
        [base.weak, base.ceiling],
        [at, at],
        color=FAINT,
        linewidth=7,
        zorder=1,
        solid_capstyle="butt",
    )
    for value, colour in ((base.weak, MUTED), (base.ceiling, INK)):
        axes.plot(value, at, marker="|", markersize=17, markeredgewidth=2.4, color=colour, zorder=3)
    for role in ("aar", "human", "guard"):
        cells = [row.cells[index] for row in found.rows if row.method.role == role]
        reached = [c.accuracy for c in cells if c is not None and c.accuracy is not None]
        if reached:
            marker, face, edge = SIGNS[role]
            axes.plot(
                max(reached),
                at,
                marker=marker,
                markersize=6.5,
                markerfacecolor=face,
                markeredgecolor=edge,
                markeredgewidth=1.2,
                linestyle="none",
                zorder=4,
            )
