"""Figures of the ideas: entropy of the families over steps, and size of the code over time."""

from collections.abc import Sequence
from statistics import median
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aarlab.core.showing import Look
from aarlab.report.drawing import (
    FAINT,
    INK,
    MARKERS,
    MUTED,
    SERIES,
    KeyEntry,
    Style,
    draw_key,
    house_style,
    new_figure,
    placed,
    plain,
    side_labels,
    style_of,
)
from aarlab.report.figures import time_unit
from aarlab.report.idea_data import ALL, Diversity, TimedIdea, diversity_by_group, timed_ideas
from aarlab.report.view import CampaignView

SHOWN_AARS, SHOWN_OF_ONE_ARM = len(SERIES), 12
"""More AARs are shown by arm, or, where there is one arm, as one."""
BINS = 6


class Group(NamedTuple):
    """AARs that are drawn alike, and what the key calls them."""

    name: str
    style: Style
    aars: frozenset[str]


def diversity_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw entropy in bits over the steps, 90 % bootstrap band; None if no step has five AARs."""
    groups = diversity_by_group(view)
    if not groups:
        return None
    with house_style():
        figure = new_figure(9.4, 3.5) if wide else new_figure(4.3, 3.3)
        axes = placed(figure, (0.62, 7.6) if wide else (0.55, 3.2), (0.52, 0.42))
        ends = []
        for index, (name, points) in enumerate(groups.items()):
            colour = INK if name == ALL else SERIES[(index - 1) % len(SERIES)]
            steps, bits = [p.step for p in points], [p.bits for p in points]
            if name == ALL:
                _draw_band(axes, points)
            axes.plot(
                steps,
                bits,
                color=colour,
                linewidth=2.4 if name == ALL else 1.5,
                marker=MARKERS[index % len(MARKERS)],
                markersize=4.5,
            )
            ends.append((bits[-1], plain(name, 16), colour))
        longest = max(groups.values(), key=len)
        axes.plot(
            [p.step for p in longest],
            [p.most for p in longest],
            color=MUTED,
            linewidth=1.0,
            linestyle=(0, (4, 3)),
        )
        axes.set_ylim(0, max(p.most for p in longest) * 1.06 or 1.0)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(axis="y", color=FAINT, linewidth=0.7)
        axes.set_xlabel("Step: the k-th idea of each AAR")
        axes.set_ylabel("Entropy of families (bits)")
        side_labels(axes, [e[0] for e in ends], [e[1] for e in ends], [e[2] for e in ends])
        most = KeyEntry("most possible with as many AARs", line=(0, (4, 3)), edge=MUTED)
        draw_key(figure, 0.62, 0.16, [most])
        return figure


def _draw_band(axes: Axes, points: Sequence[Diversity]) -> None:
    """Draw the band of all AARs; bands of the arms, which would overlap, are in diversity.csv."""
    steps, lows, highs = [p.step for p in points], [p.low for p in points], [p.high for p in points]
    axes.fill_between(steps, lows, highs, color=INK, alpha=0.1, linewidth=0)


def complexity_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw the size of each snapshot over research time. None where no size could be measured.

    Lines and nodes of code; options where every snapshot is a recipe, whose code is always the
    same.
    """
    ideas = [idea for idea in timed_ideas(view) if idea.complexity is not None]
    if not ideas:
        return None
    panels = _panels(ideas)
    with house_style():
        if wide:
            figure = new_figure(9.4, 3.5)
            room = (9.25 - 0.62) / len(panels)
            axes = [
                placed(figure, (0.62 + k * room, 0.62 + (k + 1) * room - 0.75), (0.52, 0.45))
                for k in range(len(panels))
            ]
        else:
            figure = new_figure(4.3, 2.9 * len(panels))
            axes = [
                placed(figure, (0.62, 4.1), (0.52 + 2.9 * (len(panels) - 1 - k), 0.4 + 2.9 * k))
                for k in range(len(panels))
            ]
        unit, per_hour = time_unit(view)
        groups = _groups(view, ideas)
        for panel, (title, values) in zip(axes, panels, strict=True):
            _draw_sizes(panel, ideas, values, groups, per_hour)
            panel.set_xlabel(f"Cumulative research {unit}, all AARs")
            panel.set_ylabel(title)
        _draw_names(figure, groups, wide)
        return figure


def _panels(ideas: Sequence[TimedIdea]) -> list[tuple[str, list[float]]]:
    sizes = [idea.complexity for idea in ideas if idea.complexity is not None]
    options = [size.options for size in sizes]
    if all(count is not None for count in options):
        return [("Recipe options set", [float(count or 0) for count in options])]
    return [
        ("Lines of code", [float(size.lines) for size in sizes]),
        ("Syntax-tree nodes", [float(size.nodes) for size in sizes]),
    ]


def _groups(view: CampaignView, ideas: Sequence[TimedIdea]) -> list[Group]:
    """Return what gets a sign: the AARs, or where there are many the arms, or all as one."""
    having = {idea.aar for idea in ideas}
    aars = [aar.name for aar in view.aars if aar.name in having]
    arms = list(dict.fromkeys(aar.arm for aar in view.aars if aar.name in having))
    if len(aars) <= (SHOWN_AARS if len(arms) > 1 else SHOWN_OF_ONE_ARM):
        looks = view.looks
        return [Group(name, style_of(looks[name]), frozenset({name})) for name in aars]
    if len(arms) == 1:
        return [Group(ALL, style_of(Look(0, 0)), frozenset(aars))]
    turns = [Look(k % len(SERIES), k // len(SERIES)) for k in range(len(arms))]
    return [
        Group(f"arm {arm}", style_of(look), frozenset(i.aar for i in ideas if i.arm == arm))
        for arm, look in zip(arms, turns, strict=True)
    ]


def _draw_sizes(
    axes: Axes,
    ideas: Sequence[TimedIdea],
    values: Sequence[float],
    groups: Sequence[Group],
    per_hour: float,
) -> None:
    for _, style, aars in groups:
        mine = [
            (idea.hours * per_hour, value)
            for idea, value in zip(ideas, values, strict=True)
            if idea.aar in aars
        ]
        axes.scatter(
            [x for x, _ in mine],
            [y for _, y in mine],
            s=17,
            marker=style.marker,
            color=style.colour,
            alpha=0.4,
            linewidth=0,
        )
        medians = binned_medians([x for x, _ in mine], [y for _, y in mine])
        axes.plot(
            [x for x, _ in medians],
            [y for _, y in medians],
            color=style.colour,
            linestyle=style.dash,
            linewidth=2.0,
        )
    axes.set_ylim(bottom=0, top=max([*values, 1.0]) * 1.08)
    axes.set_xlim(left=0)
    axes.grid(axis="y", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def binned_medians(at: Sequence[float], values: Sequence[float]) -> list[tuple[float, float]]:
    """Return the median of each of `BINS` equal spans of time with a point, at its middle."""
    span = max(at, default=0.0) / BINS
    if span <= 0:
        return []
    found = []
    for index in range(BINS):
        here = [v for x, v in zip(at, values, strict=True) if min(int(x / span), BINS - 1) == index]
        if here:
            found.append(((index + 0.5) * span, median(here)))
    return found


def _draw_names(figure: Figure, groups: Sequence[Group], wide: bool) -> None:
    entries = [
        KeyEntry(plain(name, 18), style.marker, style.colour, style.colour, style.dash)
        for name, style, _ in groups
    ]
    entries.append(KeyEntry("median over time", line="-", edge=MUTED, line_width=2.0))
    draw_key(figure, 0.62 if wide else 0.1, 0.16, entries)
