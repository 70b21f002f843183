"""Figure of the arms: frontiers over each team's hours, and what each replicate reached.

Figure of the spend: a row per AAR, or per arm where there are many; only what was spent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aarlab.core.ledger import TOKEN_KINDS, device_dollars, dollars_per_hour
from aarlab.core.wire import AarRecord
from aarlab.report.arms import MEASURES, Comparison, Group, Reached, at_hours, spread
from aarlab.report.drawing import (
    FAINT,
    INK,
    KINDS,
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
from aarlab.report.view import CampaignView

GRID = 160
ROW_IN = 0.5
SHOWN = 7


def arms_figure(comparison: Comparison | None, wide: bool = True) -> Figure | None:
    """Draw the arms: search PGR over hours on the left, verified PGR on the right.

    Left is the best search PGR against the team's hours. Thin lines are replicates, the thick line
    is their mean with a 95 % t band. Right is the best verified PGR of each replicate, mean,
    interval.

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
        over_time.set_ylabel(f"Best search {comparison.figure}")
        _draw_verified(verified, groups, wide)
        verified.set_xlabel(f"Best verified {comparison.figure}, selection split")
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
    side_labels(axes, [e[0] for e in ends], [e[1] for e in ends], [e[2] for e in ends])


def _steps(team: Reached, grid: np.ndarray) -> np.ndarray:
    values = [at_hours(team.rises, float(hours)) for hours in grid]
    return np.array([np.nan if value is None else value.value for value in values])


def _draw_mean(axes: Axes, lines: np.ndarray, at: np.ndarray, colour: str) -> float:
    """Draw mean and band where every replicate has a score; returns the last mean."""
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


MANY_AARS = 12
SPENDER_ROW_IN = 0.36
TOKEN_WORDS = ("input", "output", "from cache", "into cache")


@dataclass(frozen=True, slots=True)
class Spender:
    """An AAR, the AARs of an arm together, or the operator (`own` spend, and no AARs)."""

    name: str
    aars: tuple[AarRecord, ...]
    device_rate: float
    own: Mapping[str, float] = field(default_factory=dict)

    def total(self, kind: str) -> float:
        return sum(aar.spend.get(kind, 0.0) for aar in self.aars) + self.own.get(kind, 0.0)

    @property
    def research_s(self) -> float:
        return sum(aar.research_s for aar in self.aars)

    @property
    def model_dollars(self) -> float:
        return self.total("dollars")

    @property
    def device_dollars(self) -> float:
        return sum(device_dollars(aar.spend, self.device_rate) for aar in self.aars)

    @property
    def dollars(self) -> float:
        return self.model_dollars + self.device_dollars

    @property
    def per_hour(self) -> float | None:
        return dollars_per_hour(self.dollars, self.research_s)


@dataclass(frozen=True, slots=True)
class _Panel:
    """Stacked bars: `parts` are values per row, one list per part."""

    title: str
    parts: tuple[tuple[float, ...], ...]
    end_texts: tuple[str, ...] = ()
    first_colour: int = 0


def spenders(view: CampaignView) -> list[Spender]:
    """Return AARs, or arms, then the purposes of the operator's own model calls.

    Those calls are in neither.
    """
    rate = view.export.budget.device_dollars_per_hour
    own = [Spender(name, (), rate, spend) for name, spend in view.operator_spend.items()]
    if len(view.aars) <= MANY_AARS:
        return [*(Spender(aar.name, (aar,), rate) for aar in view.aars), *own]
    arms = dict.fromkeys(aar.arm for aar in view.aars)
    shown = [Spender(arm, tuple(a for a in view.aars if a.arm == arm), rate) for arm in arms]
    return [*shown, *own]


def spend_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw panels for dollars, tokens and device time, where any was spent; None without any."""
    rows = spenders(view)
    panels = _panels(rows)
    if not panels:
        return None
    height = len(rows) * SPENDER_ROW_IN
    with house_style():
        if wide:
            figure = new_figure(9.4, height + 1.05)
            room = (9.3 - 1.5) / len(panels)
            ends = [(1.5 + k * room, 1.5 + (k + 1) * room - 0.55) for k in range(len(panels))]
            frames = [(0.5, 0.5)] * len(panels)
        else:
            each = height + 0.75
            figure = new_figure(4.3, each * len(panels) + 0.4)
            ends = [(1.15, 3.75)] * len(panels)
            frames = [
                (0.5 + each * (len(panels) - 1 - k), 0.6 + each * k) for k in range(len(panels))
            ]
        for k, panel in enumerate(panels):
            axes = placed(figure, ends[k], frames[k])
            _draw(axes, panel, rows, named=k == 0 or not wide)
        draw_key(figure, 0.1, 0.16, _key(panels))
        return figure


def _panels(rows: Sequence[Spender]) -> list[_Panel]:
    tokens = tuple(tuple(row.total(kind) / 1e6 for row in rows) for kind in TOKEN_KINDS)
    dollars = (tuple(r.model_dollars for r in rows), tuple(r.device_dollars for r in rows))
    device = (tuple(row.total("device_s") / 60 for row in rows),)
    rates = tuple("" if r.per_hour is None else f"${r.per_hour:,.2f}/h" for r in rows)
    found = [
        _Panel("Dollars (and per AAR-hour)", dollars, rates),
        _Panel("Tokens, millions", tokens),
        _Panel("Device minutes", device, first_colour=1),
    ]
    return [panel for panel in found if any(value > 0 for part in panel.parts for value in part)]


def _draw(axes: Axes, panel: _Panel, rows: Sequence[Spender], named: bool) -> None:
    row_frame(axes, len(rows))
    starts = [0.0] * len(rows)
    for colour, part in zip(KINDS[panel.first_colour :], panel.parts, strict=False):
        axes.barh(range(len(rows)), part, left=starts, height=0.55, color=colour, alpha=0.9)
        starts = [start + value for start, value in zip(starts, part, strict=True)]
    axes.set_xlim(0, max(starts) * (1.22 if panel.end_texts else 1.02))
    axes.locator_params(axis="x", nbins=4)
    axes.set_xlabel(panel.title)
    place = axes.get_yaxis_transform()
    for at, row in enumerate(rows):
        if named:
            name = plain(row.name, 16)
            label(axes, -0.03, at, name, transform=place, ha="right", va="center", fontsize=8.3)
        if panel.end_texts:
            text = panel.end_texts[at]
            where = starts[at] + max(starts) * 0.02
            label(axes, where, at, text, va="center", fontsize=7.2, color=INK, halo=True)


def _key(panels: Sequence[_Panel]) -> list[KeyEntry]:
    """List the entries of the key.

    The two darkest shades mean model calls and device time, or the first two kinds of tokens.
    """
    words = ["model calls", "device time"]
    if any(panel.title.startswith("Tokens") for panel in panels):
        both = zip(words, TOKEN_WORDS, strict=False)
        words = [*(f"{word}; tokens {token}" for word, token in both), *TOKEN_WORDS[2:]]
    elif not any(panel.title.startswith("Dollars") for panel in panels):
        return [KeyEntry("device time", "s", KINDS[1], KINDS[1])]
    return [KeyEntry(word, "s", KINDS[index], KINDS[index]) for index, word in enumerate(words)]
