"""Figure of the arms: frontiers over each team's hours, and what each replicate reached."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aarlab.report.arms import MEASURES, Comparison, Group
from aarlab.report.comparing import spread
from aarlab.report.drawing import (
    FAINT,
    MARKERS,
    MUTED,
    PAPER,
    SERIES,
    KeyEntry,
    draw_key,
    house_style,
    label,
    new_figure,
    placed,
    plain,
    row_frame,
    side_labels,
)
from aarlab.report.teams import Reached, at_hours

GRID = 160
ROW_IN = 0.5
SHOWN = 7


def arms_figure(comparison: Comparison | None, wide: bool = True) -> Figure | None:
    """Left: best search PGR against the team's hours, thin lines are replicates, the thick line is
    their mean with a 95 % t band. Right: the best verified PGR of each replicate, mean, interval.

    None without a comparison.
    """
    if comparison is None:
        return None
    groups = comparison.groups[:SHOWN]
    rows_in = len(groups) * ROW_IN
    with house_style():
        if wide:
            figure = new_figure(9.4, max(rows_in + 1.35, 3.9))
            over_time = placed(figure, (0.78, 4.45), (0.52, 0.5))
            verified = placed(figure, (6.55, 9.25), (0.52, 0.5))
        else:
            figure = new_figure(4.3, rows_in + 4.5)
            over_time = placed(figure, (0.74, 3.25), (rows_in + 1.35, 0.45))
            verified = placed(figure, (1.35, 4.15), (0.48, 3.75))
        _draw_frontiers(over_time, groups, comparison.equal_h)
        _draw_verified(verified, groups, wide)
        draw_key(
            figure,
            0.12,
            0.16,
            [
                KeyEntry("replicate", "o", PAPER, MUTED),
                KeyEntry("mean of replicates, 95 %", "D", MUTED, MUTED),
            ],
        )
        return figure


def _draw_frontiers(axes: Axes, groups: Sequence[Group], equal_h: float) -> None:
    per_hour, unit = (60.0, "minutes") if equal_h < 1.5 else (1.0, "hours")
    grid = np.linspace(0.0, equal_h, GRID)
    ends: list[tuple[float, str, str]] = []
    shown: list[float] = [0.0, 0.2]
    for index, group in enumerate(groups):
        colour = SERIES[index]
        lines = [_steps(team, grid) for team in group.teams if team.rises]
        for line in lines:
            axes.plot(
                grid * per_hour, line, color=colour, linewidth=0.8, alpha=0.45, drawstyle="steps"
            )
        if not lines:
            continue
        shown += [float(value) for line in lines for value in line[~np.isnan(line)]]
        mean = _draw_mean(axes, np.array(lines), grid * per_hour, colour)
        ends.append((mean, plain(group.name, 16), colour))
    room = 0.08 * (max(shown) - min(shown))  # a band of few replicates would flatten the lines
    axes.set_ylim(min(shown) - room, max(shown) + room)
    axes.set_xlim(0, max(equal_h * per_hour, 1e-9))
    axes.axhline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(f"Research {unit} of the team")
    axes.set_ylabel("Best search PGR")
    side_labels(axes, [e[0] for e in ends], [e[1] for e in ends], [e[2] for e in ends])


def _steps(team: Reached, grid: np.ndarray) -> np.ndarray:
    values = [at_hours(team.rises, float(hours)) for hours in grid]
    return np.array([np.nan if value is None else value.value for value in values])


def _draw_mean(axes: Axes, lines: np.ndarray, at: np.ndarray, colour: str) -> float:
    """Mean and band where every replicate has a score; returns the last mean."""
    there = ~np.isnan(lines).any(axis=0)
    spreads = [spread(column.tolist()) for column in lines.T[there]]
    means = [s.mean for s in spreads if s]
    axes.plot(at[there], means, color=colour, linewidth=2.6, zorder=4)
    bands = [(s.low, s.high) for s in spreads if s and s.low is not None and s.high is not None]
    if bands:
        lows, highs = zip(*bands, strict=True)
        axes.fill_between(at[there], lows, highs, color=colour, alpha=0.12, linewidth=0, zorder=1)
    return means[-1] if means else float(np.nanmax(lines))


def _draw_verified(axes: Axes, groups: Sequence[Group], wide: bool) -> None:
    measure = MEASURES[0]
    row_frame(axes, len(groups))
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    axes.set_xlabel("Best verified PGR, selection split")
    for row, group in enumerate(groups):
        colour, found = SERIES[row], group.spread(measure)
        values = group.values(measure)
        axes.plot(
            values,
            [row + 0.14] * len(values),
            linestyle="none",
            marker=MARKERS[row],
            markersize=6,
            markerfacecolor=PAPER,
            markeredgecolor=colour,
            markeredgewidth=1.3,
            zorder=4,
        )
        if found is not None:
            if found.low is not None and found.high is not None:
                ends = [found.low, found.high]
                axes.plot(ends, [row - 0.14] * 2, color=colour, linewidth=1.6, zorder=3)
            axes.plot(found.mean, row - 0.14, marker="D", markersize=6.5, color=colour, zorder=5)
        _name_row(axes, row, group, colour, wide)


def _name_row(axes: Axes, row: int, group: Group, colour: str, wide: bool) -> None:
    place, size = axes.get_yaxis_transform(), 8.8 if wide else 8.0
    n_verified = len(group.values(MEASURES[0]))
    said = f"{n_verified} of {len(group.teams)} verified" if n_verified else "nothing verified"
    name = plain(group.name, 18 if wide else 14)
    label(
        axes,
        -0.03,
        row,
        name,
        transform=place,
        ha="right",
        va="bottom",
        fontsize=size,
        color=colour,
    )
    label(
        axes,
        -0.03,
        row + 0.05,
        said,
        transform=place,
        ha="right",
        va="top",
        fontsize=7.2,
        color=MUTED,
    )
