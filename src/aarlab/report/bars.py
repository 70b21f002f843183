"""Figures with one row per verified method: standings, search against selection, ablation."""

from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aarlab.core.wire import Interval
from aarlab.report.drawing import (
    ACCENT,
    INK,
    MUTED,
    PAPER,
    KeyEntry,
    draw_key,
    house_style,
    label,
    new_figure,
    plain,
    row_frame,
    style_of,
)
from aarlab.report.view import CampaignView, Method
from aarlab.report.wording import levels

SHOWN_OPTIMISM = 12
SHOWN_STANDINGS = 12
LOWEST = -1.0
"""A PGR below is drawn at the edge, so that one failed baseline does not flatten the rest."""

SHOWN_ABLATION = 6
ROW_IN = 0.44
EDGE_IN = 0.56
WIDE_IN, NARROW_IN = 9.4, 4.3
NAME_IN = 2.6
TRUE_COLOUR, PERMUTED_COLOUR = ACCENT, MUTED


def standings_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw PGR on the selection split with intervals, in the order of the leaderboard.

    Shows the best methods and all baselines. Returns None if no method is ranked.
    """
    known = [m for m in view.methods if m.verified and not m.apart]
    methods = [m for m in known if m in view.standing or m.role != "aar"]
    last = [m for m in methods if m.role == "aar"][SHOWN_STANDINGS:]
    methods = [m for m in methods if m not in last]
    if not view.standing:
        return None
    with house_style():
        figure, axes = _row_axes(len(methods), wide, key_in=0.3, row_in=0.36)
        estimates = [m.verified for m in methods if m.verified]
        _set_range(axes, [max(v, LOWEST) for e in estimates for v in (e.low, e.high)])
        for row, method in enumerate(methods):
            _draw_standing(axes, row + (0 if wide else 0.1), method, view)
        _name_rows(axes, methods, wide)
        problem = view.problem
        what = f"{problem.figure} on the selection split, {levels(estimates)}"
        axes.set_xlabel(f"{what}: 0 is {problem.zero}, 1 {problem.one}")
        key = [
            KeyEntry(f"method of an AAR{', in its colour' if wide else ''}", "o", MUTED, MUTED),
            KeyEntry("tuned by hand", "s", INK, INK),
            KeyEntry("guard", "s", PAPER, INK),
        ]
        draw_key(figure, _left_in(wide), 0.14, key)
        return figure


def _draw_standing(axes: Axes, at: float, method: Method, view: CampaignView) -> None:
    estimate = method.verified
    assert estimate is not None
    colour, marker = INK, "s"
    if method.role == "aar" and method.aar in view.looks:
        colour, marker = style_of(view.looks[method.aar]).colour, "o"
    ends = [max(estimate.low, LOWEST), max(estimate.high, LOWEST)]
    axes.plot(ends, [at, at], color=colour, linewidth=1.3, zorder=2)
    axes.plot(
        max(estimate.value, LOWEST),
        at,
        marker=marker if estimate.value > LOWEST else "<",
        markersize=7,
        markerfacecolor=PAPER if method.role == "guard" else colour,
        markeredgecolor=colour,
        markeredgewidth=1.3,
        linestyle="none",
        zorder=4,
    )


def optimism_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw each method's search PGR (hollow) and verified selection PGR with interval (filled).

    The search PGR is the one the method was chosen by. A stroke marks the search PGR less what
    vanilla fell by: the bar runs from there. None without a verified method.
    """
    methods = view.standing[:SHOWN_OPTIMISM]
    fell = view.vanilla.drop if view.vanilla else 0.0
    if not methods:
        return None
    with house_style():
        figure, axes = _row_axes(len(methods), wide, key_in=0.3)
        estimates = [e for m in methods for e in (m.search, m.verified) if e]
        expected = [m.search.value - fell for m in methods if m.search]
        spans = [v for m in methods if m.verified for v in (m.verified.low, m.verified.high)]
        _set_range(axes, [*spans, *expected, *(e.value for e in estimates)])
        for row, method in enumerate(methods):
            _draw_dumbbell(axes, row, method, fell)
        _name_rows(axes, methods, wide)
        axes.set_xlabel(view.problem.figure)
        key = [
            KeyEntry(
                f"selection, {levels(m.verified for m in methods if m.verified)}",
                "o",
                ACCENT,
                ACCENT,
            ),
            KeyEntry("search", "o", PAPER, MUTED),
        ]
        if view.vanilla:
            key.append(KeyEntry("search less vanilla's drop", "|", MUTED, MUTED))
        draw_key(figure, _left_in(wide), 0.14, [*key, *_draw_guard(axes, view)])
        return figure


def ablation_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Draw bars with intervals: teacher's labels over permuted ones. None without an ablation."""
    methods = [method for method in view.standing if method.ablated][:SHOWN_ABLATION]
    if not methods:
        return None
    with house_style():
        figure, axes = _row_axes(len(methods), wide, key_in=0.3, row_in=0.6)
        pairs = [(m.verified, m.ablated) for m in methods if m.verified and m.ablated]
        _set_range(axes, [v for pair in pairs for e in pair for v in (e.low, e.high)])
        lowered = 0.0 if wide else 0.1  # room for the name above
        for row, (true, permuted) in enumerate(pairs):
            _draw_bar(axes, row - 0.15 + lowered, true, TRUE_COLOUR)
            _draw_bar(axes, row + 0.15 + lowered, permuted, PERMUTED_COLOUR)
        _name_rows(axes, methods, wide)
        axes.set_xlabel(f"{view.problem.figure} on the selection split")
        key = [
            KeyEntry("the teacher's labels", "s", TRUE_COLOUR, TRUE_COLOUR),
            KeyEntry("permuted labels", "s", PERMUTED_COLOUR, PERMUTED_COLOUR),
        ]
        draw_key(figure, _left_in(wide), 0.14, key)
        return figure


def _left_in(wide: bool) -> float:
    return NAME_IN if wide else 0.12


def _row_axes(count: int, wide: bool, key_in: float, row_in: float = ROW_IN) -> tuple[Figure, Axes]:
    """Return axes with row 0 on top; narrow figures leave room for the name above each row."""
    width, row = (WIDE_IN, row_in) if wide else (NARROW_IN, row_in + 0.16)
    left = _left_in(wide)
    height = count * row + EDGE_IN + key_in
    figure = new_figure(width, height)
    axes = figure.add_axes(
        (left / width, EDGE_IN / height, (width - left - 0.15) / width, count * row / height)
    )
    row_frame(axes, count)
    return figure, axes


def _set_range(axes: Axes, values: Sequence[float]) -> None:
    low, high = min([0.0, *values]), max([0.2, *values])
    room = 0.04 * (high - low)
    axes.set_xlim(low - room, high + room)
    axes.axvline(0, color=MUTED, linewidth=0.9, zorder=1)


def _draw_dumbbell(axes: Axes, row: int, method: Method, fell: float) -> None:
    at = row
    if method.verified is None:
        return
    if method.search is not None:
        axes.plot(
            [method.search.value - fell, method.verified.value],
            [at, at],
            color=MUTED,
            linewidth=2.6,
            alpha=0.35,
            solid_capstyle="round",
            zorder=2,
        )
        if fell:
            axes.plot(
                method.search.value - fell, at, marker="|", markersize=9, color=MUTED, zorder=4
            )
    axes.plot(
        [method.verified.low, method.verified.high], [at, at], color=ACCENT, linewidth=1.1, zorder=3
    )
    if method.search is not None:
        axes.plot(
            method.search.value,
            at,
            marker="o",
            markersize=7,
            markerfacecolor=PAPER,
            markeredgecolor=MUTED,
            markeredgewidth=1.3,
            linestyle="none",
            zorder=4,
        )
    axes.plot(
        method.verified.value,
        at,
        marker="o",
        markersize=7,
        color=ACCENT,
        linestyle="none",
        zorder=5,
    )


def _draw_guard(axes: Axes, view: CampaignView) -> list[KeyEntry]:
    """Draw a line at the best guard's selection PGR and return its key entries."""
    guard = view.best_guard
    if guard is None or guard.verified is None:
        return []
    style = (0, (1, 2))
    axes.axvline(guard.verified.value, color=INK, linewidth=1.1, linestyle=style, zorder=1)
    return [KeyEntry("best guard, selection", line=style)]


def _draw_bar(axes: Axes, at: float, estimate: Interval, colour: str) -> None:
    axes.barh(at, estimate.value, height=0.27, color=colour, alpha=0.85, zorder=2)
    axes.plot([estimate.low, estimate.high], [at, at], color=INK, linewidth=1.1, zorder=3)


def _name_rows(axes: Axes, methods: Sequence[Method], wide: bool) -> None:
    for row, method in enumerate(methods):
        rank = f"{method.rank}. " if method.rank else ""
        own = "" if method.name == method.short else plain(method.name, 38 if wide else 30)
        name, author = f"{rank}{plain(method.short, 30)}", own
        if wide:
            place = axes.get_yaxis_transform()
            at = "bottom" if author else "center"
            label(axes, -0.018, row, name, transform=place, ha="right", va=at, fontsize=8.8)
            label(
                axes,
                -0.018,
                row + 0.04,
                author,
                transform=place,
                ha="right",
                va="top",
                fontsize=7.5,
                color=MUTED,
            )
        else:
            label(
                axes,
                0.0,
                row - 0.34,
                " · ".join(filter(None, (name, author))),
                halo=True,
                transform=axes.get_yaxis_transform(),
                va="center",
                fontsize=8,
            )
