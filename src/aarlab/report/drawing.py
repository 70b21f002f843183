"""Figure style: palette, plain-text labels, label spacing, and SVG that follows the page's colours.

Colours are hex values that stand for roles. In files they are what they say; inline in the page
each becomes a CSS variable, so that one figure serves light and dark.
"""

import io
import re
import unicodedata
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, NamedTuple

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patheffects import withStroke

from aarlab.core.showing import HUES, Look

INK, MUTED, FAINT, ACCENT = "#16202b", "#5a6673", "#d5dae0", "#b3261f"
SERIES = HUES
"""For AARs (by `style_of` alone) and, in figures without AARs, for arms; markers repeat it."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
DASHES: tuple[Any, ...] = ("-", (0, (5, 2)), (0, (1.5, 1.5)))
KINDS = ("#2f3b47", "#8a949f", "#b9c0c8", "#67727d")
"""Shades for kinds of a quantity: hues are the AARs'."""

PAPER = "#ffffff"
CSS_NAMES = {INK: "ink", MUTED: "muted", FAINT: "faint", ACCENT: "accent", PAPER: "paper"} | {
    hue: f"series-{index}" for index, hue in enumerate(SERIES, start=1)
}
CSS_NAMES |= {shade: f"kind-{index}" for index, shade in enumerate(KINDS, start=1)}
DPI = 200
FONT = "DejaVu Sans"  # comes with matplotlib, so a figure looks the same everywhere

STYLE: dict[Any, Any] = {
    "font.family": FONT,
    "font.size": 9.0,
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "text.parse_math": False,  # names are data: a dollar sign is a dollar sign
    "svg.fonttype": "path",
    "svg.hashsalt": "aarlab",
    "figure.dpi": 100,
}


class Style(NamedTuple):
    """The colour, marker and dash pattern of an AAR."""

    colour: str
    marker: str
    dash: Any


def style_of(look: Look) -> Style:
    return Style(SERIES[look.hue], MARKERS[look.hue], DASHES[look.turn % len(DASHES)])


@contextmanager
def house_style() -> Iterator[None]:
    with mpl.rc_context(STYLE):
        yield


def new_figure(width: float, height: float) -> Figure:
    """Return an empty figure; sizes in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    return figure


@lru_cache(maxsize=1)
def _drawable_codes() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT)).get_charmap())


def plain(text: str, limit: int = 28) -> str:
    """Return user text fit to be drawn: one line, drawable characters, cut in the middle."""
    kept = "".join(
        character if ord(character) in _drawable_codes() else "□"
        for character in " ".join(text.split())
        if unicodedata.category(character)[0] != "C"
    )
    if len(kept) <= limit:
        return kept
    tail = limit // 3
    return f"{kept[: limit - tail - 1].rstrip()}…{kept[-tail:].lstrip()}"


def spread(wanted: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Return positions near the wanted ones, in order, at least `gap` apart, inside [low, high].

    When they cannot all fit, they are spaced evenly over the range.
    """
    count = len(wanted)
    if count == 0:
        return []
    if (count - 1) * gap >= high - low:
        step = (high - low) / max(count - 1, 1)
        ordered = [low + step * index for index in range(count)]
    else:
        ordered = _pushed_apart(sorted(wanted), gap, low, high)
    placed = [0.0] * count
    for rank, index in enumerate(sorted(range(count), key=lambda i: wanted[i])):
        placed[index] = ordered[rank]
    return placed


def _pushed_apart(targets: list[float], gap: float, low: float, high: float) -> list[float]:
    """Return blocks of touching labels, each centred on its targets (pool adjacent violators)."""
    blocks: list[list[float]] = []  # [mean of (target - rank * gap), size]
    for rank, target in enumerate(targets):
        blocks.append([target - rank * gap, 1.0])
        while len(blocks) > 1 and blocks[-2][0] > blocks[-1][0]:
            mean, size = blocks.pop()
            blocks[-1][0] = (blocks[-1][0] * blocks[-1][1] + mean * size) / (blocks[-1][1] + size)
            blocks[-1][1] += size
    ceiling = high - (len(targets) - 1) * gap
    bases = [min(max(mean, low), ceiling) for mean, size in blocks for _ in range(int(size))]
    return [base + rank * gap for rank, base in enumerate(bases)]


def label(axes: Axes, x: float, y: float, text: str, halo: bool = False, **style: Any) -> None:
    """Draw text that is never read as mathematics; `halo` keeps it legible on top of lines."""
    drawn = axes.text(x, y, text, clip_on=False, **style)
    if halo:
        drawn.set_path_effects([withStroke(linewidth=2.4, foreground=PAPER)])


def row_frame(axes: Axes, count: int) -> None:
    """Set up axes of `count` rows, row 0 on top, with a grid for the values only."""
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)


def placed(figure: Figure, ends: tuple[float, float], frame: tuple[float, float]) -> Axes:
    """Return axes between two x positions, `frame` inches away from the bottom and the top."""
    width, height = figure.get_figwidth(), figure.get_figheight()
    (left, right), (bottom, top) = ends, frame
    return figure.add_axes(
        (left / width, bottom / height, (right - left) / width, (height - bottom - top) / height)
    )


def height_in(axes: Axes) -> float:
    """Return the height of the axes in inches."""
    return axes.get_position().height * _figure(axes).get_figheight()


def _figure(axes: Axes) -> Figure:
    figure = axes.get_figure(root=True)
    assert figure is not None
    return figure


def side_labels(axes: Axes, values: list[float], texts: list[str], colours: list[str]) -> None:
    """Draw labels right of the axes, moved apart, with a hair line to where they belong."""
    low, high = axes.get_ylim()
    placed = spread(values, 0.165 * (high - low) / height_in(axes), low, high)
    width_in = axes.get_position().width * _figure(axes).get_figwidth()
    unit = 1 / width_in  # one inch in axes coordinates
    for value, at, text, colour in zip(values, placed, texts, colours, strict=True):
        axes.plot(
            [1 + 0.02 * unit, 1 + 0.16 * unit],
            [value, at],
            transform=axes.get_yaxis_transform(),
            color=colour,
            linewidth=0.7,
            clip_on=False,
        )
        label(
            axes,
            1 + 0.2 * unit,
            at,
            text,
            transform=axes.get_yaxis_transform(),
            color=colour,
            va="center",
            fontsize=8.5,
        )


@dataclass(frozen=True, slots=True)
class KeyEntry:
    """One sign of a figure's key: a marker, a line where `line` names a style, or both."""

    text: str
    marker: str = ""
    face: str = INK
    edge: str = INK
    line: Any = None
    line_width: float = 1.1


SIGN_IN, LONG_SIGN_IN, BETWEEN_IN, KEY_ROW_IN = 0.2, 0.36, 0.25, 0.2


def _sign_in(entry: KeyEntry) -> float:
    """Return the width of a sign in inches; dashes must be seen on both sides of a marker."""
    return LONG_SIGN_IN if entry.marker and entry.line is not None else SIGN_IN


def draw_key(figure: Figure, left_in: float, top_in: float, entries: Sequence[KeyEntry]) -> None:
    """Draw signs with words, `left_in` and `top_in` inches from the figure's corner.

    All entries are drawn, in as many rows as the figure's width asks for. Each row after the first
    makes the figure higher; what was drawn before keeps its size and distance from the lower edge.
    """
    texts = [figure.text(0, 0, entry.text, va="center", fontsize=8) for entry in entries]
    widths_in = [
        _sign_in(entry) + 0.05 + text.get_window_extent().width / figure.dpi
        for entry, text in zip(entries, texts, strict=True)
    ]
    places = _flow(widths_in, figure.get_figwidth() - left_in - 0.05)
    _heighten(figure, KEY_ROW_IN * max((row for row, _ in places), default=0))
    width, height = figure.get_figwidth(), figure.get_figheight()
    for entry, text, (row, along_in) in zip(entries, texts, places, strict=True):
        x_in, y = left_in + along_in, 1 - (top_in + row * KEY_ROW_IN) / height
        left, right = x_in / width, (x_in + _sign_in(entry)) / width
        text.set_position((right + 0.05 / width, y))
        # Lines of the figure itself: axes of their own for each sign took most of a figure's time.
        if entry.line is not None:
            style: dict[str, Any] = {
                "linestyle": entry.line,
                "linewidth": entry.line_width,
                "solid_capstyle": "butt",
            }
            figure.add_artist(Line2D([left, right], [y, y], color=entry.edge, **style))
        if entry.marker:
            sign = Line2D(
                [(left + right) / 2],
                [y],
                marker=entry.marker,
                markersize=5.5,
                markerfacecolor=entry.face,
                markeredgecolor=entry.edge,
                markeredgewidth=1.1,
            )
            figure.add_artist(sign)


def _flow(widths_in: Sequence[float], room_in: float) -> list[tuple[int, float]]:
    """Return row and distance from the left of each entry; a row holds what fits, one at least."""
    places = list[tuple[int, float]]()
    row, along_in = 0, 0.0
    for width_in in widths_in:
        if along_in and along_in + width_in > room_in:
            row, along_in = row + 1, 0.0
        places.append((row, along_in))
        along_in += width_in + BETWEEN_IN
    return places


def _heighten(figure: Figure, by_in: float) -> None:
    """Add room at the top; what is drawn keeps its size and distance from the lower edge."""
    before = figure.get_figheight()
    figure.set_figheight(before + by_in)
    for axes in figure.axes:
        left, bottom, width, height = axes.get_position().bounds
        shrunk = before / (before + by_in)
        axes.set_position((left, bottom * shrunk, width, height * shrunk))


def png_bytes(figure: Figure) -> bytes:
    out = io.BytesIO()
    with house_style():
        figure.savefig(out, format="png", dpi=DPI, facecolor=PAPER, metadata={"Software": "aarlab"})
    return out.getvalue()


def bare_svg(figure: Figure) -> str:
    """Return an SVG file without a background: same bytes for the same figure."""
    out = io.StringIO()
    with house_style():  # the salt of the ids is read when the file is written
        figure.savefig(
            out, format="svg", transparent=True, metadata={"Date": None, "Creator": None}
        )
    return out.getvalue()


def on_paper(bare: str) -> str:
    """Return an SVG file with a white background, to be shown anywhere."""
    return re.sub(
        r"<svg [^>]*>", rf'\g<0>\n <rect width="100%" height="100%" fill="{PAPER}"/>', bare, count=1
    )


def inlined(bare: str, prefix: str) -> str:
    """Return the SVG element alone, transparent, its colours CSS variables, its ids with `prefix`.

    Ids are unique by `prefix`. It is hidden from assistive technology: the page gives the text
    alternative on the element around it.
    """
    body = bare[bare.index("<svg") :]
    body = re.sub(r"<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r"<metadata>.*?</metadata>", "", body, flags=re.DOTALL)
    body = re.sub(r' xmlns(:xlink)?="[^"]*"', "", body)
    body = re.sub(r'(\sid="|url\(#|xlink:href="#)', rf"\g<1>{prefix}-", body)
    body = re.sub(
        r'<svg ([^>]*?)width="[^"]*"', r'<svg aria-hidden="true" focusable="false" \1', body
    )
    body = re.sub(r'(<svg [^>]*?) height="[^"]*"', r"\1", body, count=1)
    for colour, name in CSS_NAMES.items():
        body = body.replace(colour, f"var(--{name})")
    return re.sub(r"\n\s*", "\n", body)
