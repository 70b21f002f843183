"""Figures of the ideas: entropy of the families over steps, and size of the code over time."""

from collections.abc import Sequence
from statistics import median

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from aarlab.core.colours import Look
from aarlab.report.diversity import Diversity
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
from aarlab.report.idea_data import ALL, TimedIdea, diversity_by_group, timed_ideas
from aarlab.report.view import CampaignView

SHOWN_AARS = len(SERIES)
BINS = 6


def diversity_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Entropy in bits over the steps, 90 % bootstrap band; None where no step has five AARs."""
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
    """Of all AARs; bands of the arms would hide each other, they are in diversity.csv."""
    steps, lows, highs = [p.step for p in points], [p.low for p in points], [p.high for p in points]
    axes.fill_between(steps, lows, highs, color=INK, alpha=0.1, linewidth=0)


def complexity_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Size of each snapshot over research time. Lines and nodes of code; options where every
    snapshot is a recipe, whose code is always the same. None where nothing could be measured."""
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
        names = _leading(view, ideas)
        styles = _styles(view, names)
        for panel, (title, values) in zip(axes, panels, strict=True):
            _draw_sizes(panel, ideas, values, list(zip(names, styles, strict=True)), per_hour)
            panel.set_xlabel(f"Cumulative research {unit}, all AARs")
            panel.set_ylabel(title)
        _draw_names(figure, names, styles, wide)
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


def _leading(view: CampaignView, ideas: Sequence[TimedIdea]) -> list[str]:
    """The AARs that get a colour: arms where there are many AARs, else the AARs themselves."""
    aars = list(dict.fromkeys(idea.aar for idea in ideas))
    if len(aars) <= SHOWN_AARS:
        return aars
    return list(dict.fromkeys(idea.arm for idea in ideas))[:SHOWN_AARS]


def _styles(view: CampaignView, names: Sequence[str]) -> list[Style]:
    """Return each name's style: that of the AAR in every figure, or a hue by order for an arm."""
    looks = view.looks
    return [style_of(looks.get(name, Look(k % len(SERIES), 0))) for k, name in enumerate(names)]


def _draw_sizes(
    axes: Axes,
    ideas: Sequence[TimedIdea],
    values: Sequence[float],
    styled: Sequence[tuple[str, Style]],
    per_hour: float,
) -> None:
    for name, style in styled:
        mine = [
            (idea.hours * per_hour, value)
            for idea, value in zip(ideas, values, strict=True)
            if name in (idea.aar, idea.arm)
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
    """Median of each of `BINS` equal spans of time that holds a point, at the span's middle."""
    span = max(at, default=0.0) / BINS
    if span <= 0:
        return []
    found = []
    for index in range(BINS):
        here = [v for x, v in zip(at, values, strict=True) if min(int(x / span), BINS - 1) == index]
        if here:
            found.append(((index + 0.5) * span, median(here)))
    return found


def _draw_names(figure: Figure, names: Sequence[str], styles: Sequence[Style], wide: bool) -> None:
    limit, per_row = (14, 8) if wide else (10, 3)
    entries = [
        KeyEntry(plain(name, limit), style.marker, style.colour, style.colour)
        for name, style in list(zip(names, styles, strict=True))[: per_row - 1]
    ]
    entries.append(KeyEntry("median over time", line="-", edge=MUTED, line_width=2.0))
    draw_key(figure, 0.62 if wide else 0.1, 0.16, entries)
