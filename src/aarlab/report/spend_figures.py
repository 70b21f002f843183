"""Figure of the spend: a row per AAR, or per arm where there are many; only what was spent."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from aarlab.core.ledger import TOKEN_KINDS, device_dollars, dollars_per_hour
from aarlab.core.wire import AarRecord
from aarlab.report.drawing import (
    INK,
    KINDS,
    KeyEntry,
    draw_key,
    house_style,
    label,
    new_figure,
    placed,
    plain,
    row_frame,
)
from aarlab.report.view import CampaignView

MANY_AARS = 12
ROW_IN = 0.36
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
    """Stacked bars: `parts` are values per row, one list a part."""

    title: str
    parts: tuple[tuple[float, ...], ...]
    end_texts: tuple[str, ...] = ()
    first_colour: int = 0


def spenders(view: CampaignView) -> list[Spender]:
    """AARs, or arms, then what the operator's own model calls were for, which is in neither."""
    rate = view.export.budget.device_dollars_per_hour
    own = [Spender(name, (), rate, spend) for name, spend in view.operator_spend.items()]
    if len(view.aars) <= MANY_AARS:
        return [*(Spender(aar.name, (aar,), rate) for aar in view.aars), *own]
    arms = dict.fromkeys(aar.arm for aar in view.aars)
    shown = [Spender(arm, tuple(a for a in view.aars if a.arm == arm), rate) for arm in arms]
    return [*shown, *own]


def spend_figure(view: CampaignView, wide: bool = True) -> Figure | None:
    """Panels for dollars, tokens and device time, each where any was spent; None without any."""
    rows = spenders(view)
    panels = _panels(rows)
    if not panels:
        return None
    height = len(rows) * ROW_IN
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
        draw_key(figure, 0.1, 0.16, _key(panels, wide))
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


def _key(panels: Sequence[_Panel], wide: bool) -> list[KeyEntry]:
    """List the entries of the key.

    The two darkest shades mean model calls and device time, or the first two kinds of tokens.
    """
    words = ["model calls", "device time"]
    if any(panel.title.startswith("Tokens") for panel in panels):
        both = zip(words, TOKEN_WORDS, strict=False)
        words = [*(f"{word}; tokens {token}" for word, token in both), *TOKEN_WORDS[2:]]
    elif not any(panel.title.startswith("Dollars") for panel in panels):
        return [KeyEntry("device time", "s", KINDS[1], KINDS[1])]
    return [
        KeyEntry(word, "s", KINDS[index], KINDS[index])
        for index, word in enumerate(words[: 4 if wide else 2])
    ]
