"""Scores without a time, drawn next to figure 1: hand-tuned baselines and guards on search."""

from dataclasses import dataclass

from matplotlib.axes import Axes

from aarlab.core.wire import Interval
from aarlab.report.drawing import (
    INK,
    MUTED,
    PAPER,
    KeyEntry,
    label,
    plain,
    side_labels,
)
from aarlab.report.view import CampaignView
from aarlab.report.wording import signed

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
    """Baselines and verified scores on the same scale, with their 95 % intervals."""
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


def draw_rows(rows: Axes, references: list[Reference], limits: tuple[float, float]) -> None:
    """The same as the strip, lying down: a row per reference."""
    rows.set_xlim(*limits)
    rows.set_ylim(len(references) - 0.5, -0.5)
    rows.set_yticks([])
    rows.spines["left"].set_visible(False)
    rows.set_xlabel("PGR")
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
    """Hollow for guards; smaller where the score lies below the range."""
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
    """Name, with the figure where it lies below the range and the place on the axis misleads."""
    if reference.estimate.value > floor:
        return plain(reference.text, limit)
    return f"{plain(reference.text, limit - 8)} ({signed(reference.estimate.value)})"
