"""PGR on the search split against cumulative research hours, with the baselines on that split.

Scores without a time, drawn next to figure 1: hand-tuned baselines and guards on search.
"""

from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aarlab.core.wire import Interval
from aarlab.report.drawing import (
    INK,
    MUTED,
    PAPER,
    KeyEntry,
    Style,
    draw_key,
    house_style,
    label,
    new_figure,
    placed,
    plain,
    side_labels,
    style_of,
)
from aarlab.report.view import CampaignView, Point, best_so_far, frontier
from aarlab.report.wording import levels, signed

SHOWN_GUARDS = 4
SHOWN_HUMANS = 3


@dataclass(frozen=True, slots=True)
class Reference:
    """A baseline's score on the search split, as everything in the figure is."""

    text: str
    estimate: Interval
    filled: bool
    marker: str = "s"
    colour: str = INK


KEY = (
    KeyEntry("frontier of all AARs", line="-", line_width=3.6),
    KeyEntry("tuned by hand", "s", INK, INK),
    KeyEntry("guard", "s", PAPER, INK),
)
NARROW_KEY = (KeyEntry("tuned by hand", "s", INK, INK), KeyEntry("guard", "s", PAPER, INK))


def references_of(view: CampaignView) -> list[Reference]:
    """List the best hand-tuned baselines, then the best guards, each by descending search PGR."""
    found = []
    for role, most in (("human", SHOWN_HUMANS), ("guard", SHOWN_GUARDS)):
        scored = [
            (m.search.value, Reference(m.short, m.search, filled=role == "human"))
            for m in view.methods
            if m.role == role and m.search
        ]
        scored.sort(key=lambda each: -each[0])
        found += [reference for _, reference in scored[:most]]
    return found


def draw_strip(strip: Axes, references: list[Reference], limits: tuple[float, float]) -> None:
    """Draw baselines and verified scores on the same scale, with their 95 % intervals."""
    strip.set_ylim(*limits)
    strip.set_xlim(0, 1)
    strip.set_axis_off()
    for index, reference in enumerate(references):
        at = (index + 0.5) / len(references)
        low, high = (min(max(edge, limits[0]), limits[1]) for edge in _edges(reference))
        strip.plot([at, at], [low, high], color=reference.colour, linewidth=1.0, alpha=0.55)
        _mark(strip, at, max(reference.estimate.value, limits[0]), reference, limits[0])
    side_labels(
        strip,
        [max(reference.estimate.value, limits[0]) for reference in references],
        [_reference_text(reference, limits[0], 20) for reference in references],
        [reference.colour for reference in references],
    )


def draw_rows(
    rows: Axes, references: list[Reference], limits: tuple[float, float], what: str = "PGR"
) -> None:
    """Draw the same as the strip, lying down: a row per reference. `what` names the figure."""
    rows.set_xlim(*limits)
    rows.set_ylim(len(references) - 0.5, -0.5)
    rows.set_yticks([])
    rows.spines["left"].set_visible(False)
    rows.set_xlabel(what)
    rows.axvline(0, color=MUTED, linewidth=0.9, zorder=1)
    for row, reference in enumerate(references):
        low, high = (min(max(edge, limits[0]), limits[1]) for edge in _edges(reference))
        rows.plot([low, high], [row, row], color=reference.colour, linewidth=1.0, alpha=0.55)
        _mark(rows, max(reference.estimate.value, limits[0]), row, reference, limits[0])
        label(
            rows,
            -0.02,
            row,
            _reference_text(reference, limits[0], 18),
            ha="right",
            va="center",
            transform=rows.get_yaxis_transform(),
            color=reference.colour,
            fontsize=8,
        )


def _edges(reference: Reference) -> tuple[float, float]:
    return reference.estimate.low, reference.estimate.high


def _mark(axes: Axes, x: float, y: float, reference: Reference, floor: float) -> None:
    """Draw a marker, hollow for guards; smaller where the score lies below the range."""
    axes.plot(
        x,
        y,
        marker=reference.marker,
        markersize=5.5 if reference.estimate.value > floor else 3.0,
        linestyle="none",
        markerfacecolor=reference.colour if reference.filled else PAPER,
        markeredgecolor=reference.colour,
        markeredgewidth=1.1,
        clip_on=False,
        zorder=4,
    )


def _reference_text(reference: Reference, floor: float, limit: int) -> str:
    """Return the name, with the figure where the score is below the range and the axis misleads."""
    if reference.estimate.value > floor:
        return plain(reference.text, limit)
    return f"{plain(reference.text, limit - 8)} ({signed(reference.estimate.value)})"


MINUTES_BELOW_H = 1.5
LOWEST_SHOWN = -0.4
"""Points below this are drawn at the edge, so that one failed method does not flatten the rest."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Sizes of a figure in inches; references are in a strip next to the main axes, or below."""

    width: float
    height: float
    left: float
    right: float
    strip: float | None
    name_limit: int


WIDE = Layout(9.4, 4.9, 0.6, 5.85, strip=6.86, name_limit=13)
NARROW = Layout(4.3, 4.6, 0.52, 3.32, strip=None, name_limit=10)
STRIP_IN = 0.66
SHOWN_NAMES = 12
"""Of AARs beside the axes; all are drawn."""

REFERENCE_ROW_IN = 0.23
REFERENCE_NAME_IN = 1.5


def curve_figure(view: CampaignView, layout: Layout = WIDE, titled: bool = False) -> Figure:
    """Draw a line per AAR (best so far), every submission as a point, the frontier in bold."""
    with house_style():
        references = references_of(view)
        below = 0.0 if layout.strip else len(references) * REFERENCE_ROW_IN + 0.75
        figure = new_figure(layout.width, layout.height + below)
        frame = (0.52 + below, (0.72 if titled else 0.1) + (0.32 if layout.strip else 0.0))
        axes = placed(figure, (layout.left, layout.right), frame)
        axes.set_ylim(*_y_range(view, references))
        unit, per_hour = time_unit(view)
        _draw_points(axes, view, per_hour, layout)
        _name_lines(axes, view, layout)
        axes.set_xlabel(f"Cumulative research {unit}, all AARs")
        axes.set_ylabel(f"{view.problem.figure} on the search split")
        if references and layout.strip:
            ends = (layout.strip, layout.strip + STRIP_IN)
            draw_strip(placed(figure, ends, frame), references, axes.get_ylim())
            draw_key(figure, layout.left, 0.84 if titled else 0.14, KEY)
        elif references:
            ends = (REFERENCE_NAME_IN, layout.width - 0.12)
            rows = placed(figure, ends, (0.42, layout.height + 0.2))
            draw_rows(rows, references, axes.get_ylim(), view.problem.figure)
            draw_key(figure, 0.05, layout.height + 0.02, NARROW_KEY)
        if titled:
            _draw_title(figure, view, layout)
        return figure


def time_unit(view: CampaignView) -> tuple[str, float]:
    """Return the unit of the time axis and how many of them an hour has."""
    longest = max((submission.research_h for submission in view.submissions), default=0.0)
    return ("minutes", 60.0) if longest < MINUTES_BELOW_H else ("hours", 1.0)


def _y_range(view: CampaignView, references: list[Reference]) -> tuple[float, float]:
    values = [submission.exact.value for submission in view.submissions]
    raised = [point.estimate for point in frontier(view.points_by_aar.values())][-1:]
    edges = [e for r in references for e in (r.estimate.low, r.estimate.high)]
    edges += [e for estimate in raised for e in (estimate.low, estimate.high)]
    low = max(min([0.0, *values, *edges]), LOWEST_SHOWN)
    high = max([0.2, *values, *edges]) if values or edges else 1.0
    high = max(high, 1.0) if high > 0.72 else high
    room = (high - low) * 0.05
    return low - room, high + room


def _draw_points(axes: Axes, view: CampaignView, per_hour: float, layout: Layout) -> None:
    points_by_aar = {name: points for name, points in view.points_by_aar.items() if points}
    if not points_by_aar:
        axes.set_xlim(0, 1)
        axes.set_xticks([])
        label(
            axes,
            0.5,
            0.5,
            "No AAR has submitted anything yet.",
            transform=axes.transAxes,
            ha="center",
            va="center",
            color=MUTED,
        )
        return
    end = max(point.hours for points in points_by_aar.values() for point in points) * per_hour
    end = end * 1.015 if end > 0 else 1.0
    axes.set_xlim(0, end)
    ticks = MaxNLocator(8, steps=[1, 2, 5, 10]).tick_values(0.0, end)
    axes.set_xticks([tick for tick in ticks if 0 <= tick <= end])
    _draw_frontier(axes, frontier(points_by_aar.values()), per_hour, end)
    looks = view.looks
    for name, points in points_by_aar.items():
        _draw_aar(axes, points, per_hour, style_of(looks[name]))


def _draw_frontier(axes: Axes, raised: list[Point], per_hour: float, end: float) -> None:
    hours = [point.hours * per_hour for point in raised] + [end]
    estimates = [point.estimate for point in raised] + [raised[-1].estimate]
    axes.fill_between(
        hours,
        [e.low for e in estimates],
        [e.high for e in estimates],
        step="post",
        color=INK,
        alpha=0.07,
        linewidth=0,
        zorder=1,
    )
    axes.plot(
        hours,
        [e.value for e in estimates],
        drawstyle="steps-post",
        color=INK,
        linewidth=4.2,
        solid_capstyle="butt",
        zorder=3,
    )


def _draw_aar(axes: Axes, points: list[Point], per_hour: float, style: Style) -> None:
    low = axes.get_ylim()[0]
    inside = [point for point in points if point.estimate.value > low]
    below = [point for point in points if point.estimate.value <= low]
    axes.scatter(
        [p.hours * per_hour for p in inside],
        [p.estimate.value for p in inside],
        s=17,
        marker=style.marker,
        color=style.colour,
        alpha=0.45,
        linewidth=0,
        zorder=4,
        clip_on=False,
    )
    axes.scatter(
        [p.hours * per_hour for p in below],
        [low] * len(below),
        s=22,
        marker=7,
        color=style.colour,
        alpha=0.7,
        linewidth=0,
        zorder=4,
        clip_on=False,
    )
    raised = best_so_far(points)
    hours = [point.hours * per_hour for point in raised] + [axes.get_xlim()[1]]
    values = [point.estimate.value for point in raised] + [raised[-1].estimate.value]
    axes.plot(
        hours,
        values,
        drawstyle="steps-post",
        color=style.colour,
        linestyle=style.dash,
        linewidth=1.7,
        zorder=5,
    )


def _name_lines(axes: Axes, view: CampaignView, layout: Layout) -> None:
    """Draw lines for 0, 1 and the best baselines on search, and name them and the best AARs.

    The names stand to the right of the axes.
    """
    low, high = axes.get_ylim()
    best = {
        name: best_so_far(points)[-1].estimate.value
        for name, points in view.points_by_aar.items()
        if points
    }
    leading = sorted(best, key=lambda name: -best[name])
    shown, others = leading[:SHOWN_NAMES], leading[SHOWN_NAMES:]
    named: list[tuple[float, str, str]] = [
        (best[name], plain(name, layout.name_limit), style_of(view.looks[name]).colour)
        for name in shown
    ]
    if others:
        said = f"{len(others)} other" + ("s" if len(others) > 1 else "")
        named.append((best[others[0]], said, MUTED))
    rules: list[tuple[float, str, str, Any]] = [(0.0, _plain(view.problem.zero), MUTED, "-")]
    if high >= 1.0:
        rules.append((1.0, _plain(view.problem.one), MUTED, "-"))
    for method, text, style in (
        (view.best_on_search("human"), "best by hand", (0, (6, 3))),
        (view.best_on_search("guard"), "best guard", (0, (1, 2))),
    ):
        if method and method.search and low < method.search.value < high:
            rules.append((method.search.value, text, INK, style))
    for value, _, colour, style in rules:
        axes.axhline(value, color=colour, linewidth=0.9, linestyle=style, zorder=2)
    named += [(value, text, colour) for value, text, colour, _ in rules]
    values, texts, colours = (list(part) for part in zip(*named, strict=True))
    side_labels(axes, values, texts, colours)


def _plain(name: str) -> str:
    """Return a reference without its article, to stand next to a line."""
    return name.removeprefix("the ").removeprefix("a ")


def _draw_title(figure: Figure, view: CampaignView, layout: Layout) -> None:
    left, height = 0.12 / layout.width, figure.get_figheight()
    task = plain(view.task.title, 60) if view.task else "no task"
    figure.text(
        left,
        1 - 0.24 / height,
        f"Performance gap recovered on search: {task}",
        fontsize=12,
        fontweight="bold",
        va="center",
    )
    figure.text(
        left,
        1 - 0.5 / height,
        "Lines are the best so far of each AAR on the rows that AARs may query; the heavy line is "
        f"the frontier of all with its interval ({levels(s.exact for s in view.submissions)}).",
        fontsize=8.5,
        color=MUTED,
        va="center",
    )
