"""The page: numbers, tables, sentences and figures put into the template, every text escaped."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from aarlab.core.headline import (
    AAR_IN_WORDS,
    GUARD_IN_WORDS,
    PERMUTED_IN_WORDS,
    SEARCH_MINUS_SELECTION,
    SPLITS_IN_WORDS,
    Drop,
    drop_in_words,
)
from aarlab.core.pgr import TC_UNDEFINED
from aarlab.core.showing import level
from aarlab.report import (
    alternatives,
    arm_figures,
    bars,
    closing,
    drawing,
    figures,
    idea_figures,
    more_tables,
    prose,
    stories,
    tables,
    task_figures,
    wording,
)
from aarlab.report.arms import Comparison, compare_arms
from aarlab.report.repeating import repeat_notes
from aarlab.report.view import CampaignView, Method

MAX_SPEC_CHARS = 20_000


@dataclass(frozen=True, slots=True)
class PageFigure:
    """Wide and narrow drawing of one figure; `alternative` is the text for who cannot see it."""

    wide: Markup
    narrow: Markup
    alternative: str


@dataclass(frozen=True, slots=True)
class Tile:
    """A key number."""

    name: str
    value: str
    small: str


def render_page(view: CampaignView, drawn: Mapping[str, str] | None = None) -> str:
    """Return a self-contained HTML page without script or request, also of a sparse campaign.

    `drawn` holds SVGs without a background of wide figures, by the name of their files: what is
    there is not drawn again.
    """
    comparison = compare_arms(view)
    return (
        environment()
        .get_template("page.html")
        .render(
            view=view,
            words=wording,
            title=view.task.title if view.task else view.export.campaign,
            problem=view.problem,
            words_of=(view.problem.in_words, AAR_IN_WORDS, GUARD_IN_WORDS),
            splits_in_words=SPLITS_IN_WORDS,
            permuted_in_words=PERMUTED_IN_WORDS,
            drop_in_words=f"{SEARCH_MINUS_SELECTION.capitalize()}: {drop_in_words(view.problem)}",
            summary=[
                *prose.summary_paragraphs(view),
                *(said.text for said in closing.further(view)),
            ],
            tiles=_tiles(view),
            figures=_figures(view, comparison, drawn or {}),
            tables=_tables(view, comparison),
            stories=stories.stories(view),
            notes=_notes(view, comparison),
            limits=prose.methods_notes(view),
            repeating=repeat_notes(view),
            spec=_spec_text(view),
        )
    )


def comparison_page(
    title: str, comparison: Comparison, shown: list[tables.Table], notes: list[str]
) -> str:
    """Return the page of `report compare` and `campaign compare`."""
    alternative = alternatives.arms(comparison)
    return (
        environment()
        .get_template("comparison.html")
        .render(
            title=title,
            name=comparison.figure,
            figure=_row_figure(comparison, arm_figures.arms_figure, "arms", alternative, None),
            tables=shown,
            notes=notes,
        )
    )


def environment() -> Environment:
    """Return an environment that escapes every text that is not marked as safe."""
    return Environment(
        loader=PackageLoader("aarlab.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _tables(view: CampaignView, arms: Comparison | None) -> dict[str, tables.Table | None]:
    return {
        "groups": more_tables.groups(arms) if arms else None,
        "differences": more_tables.differences(arms) if arms else None,
        "families": more_tables.families(view),
        "transfer": more_tables.transfers(view),
        "hacks": more_tables.hacks(view),
        "checks": more_tables.checks(view),
        "models": more_tables.model_spend(view),
        "leaderboard": tables.leaderboard(view),
        "apart": tables.methods_apart(view),
        "baselines": tables.baselines(view),
        "aars": tables.aars(view),
        "spend": tables.spend(view),
        "findings": tables.findings(view),
        "failures": tables.failures(view),
        "audits": tables.audits(view),
    }


def _notes(view: CampaignView, arms: Comparison | None) -> dict[str, str]:
    return {
        "arms": prose.arms_note(arms),
        "ideas": prose.ideas_note(view),
        "multiplicity": prose.multiplicity_note(view),
        "guard": prose.guard_note(view),
        "delivery": prose.delivery_note(view),
        "negative": prose.negative_note(view),
        "silent": prose.silent_note(view),
        "operator": prose.operator_note(view),
    }


def _tiles(view: CampaignView) -> list[Tile]:
    best = view.ranked[0] if view.ranked else None
    estimate = best.verified if best else None
    bounds = (
        f"{level(estimate)} {wording.signed(estimate.low)} to {wording.signed(estimate.high)}"
        if estimate
        else "none is clearly above 0"
        if view.standing
        else "nothing ranks yet"
        if view.apart
        else "nothing was verified"
    )
    drop = view.drop(best) if best else None
    human, guard, name = view.best_human, view.best_guard, view.problem.figure
    return [
        *_headline_tile(view),
        Tile(
            f"Best {name}, verified", wording.signed(estimate.value if estimate else None), bounds
        ),
        Tile(
            "The same, on search",
            wording.signed(best.search.value if best and best.search else None),
            "nothing to compare"
            if drop is None
            else f"{SEARCH_MINUS_SELECTION} {wording.difference(drop.value)}"
            + _compared_with_vanilla(view, drop),
        ),
        _reference_tile("Best by hand", human),
        _reference_tile("Best guard", guard),
        *_contribution_tile(view, best),
    ]


def _compared_with_vanilla(view: CampaignView, drop: Drop) -> str:
    if not view.problem.weak_labels:
        return ""
    return " less vanilla's" if drop.vanilla else "; vanilla not run"


def _contribution_tile(view: CampaignView, best: Method | None) -> list[Tile]:
    """Return the tile with what the teacher adds; none in a problem without a teacher."""
    if not view.problem.weak_labels:
        return []
    return [
        Tile(
            "Teacher contribution",
            wording.signed(best.contribution if best else None),
            TC_UNDEFINED
            if best and best.ablated and best.contribution is None
            else f"permuted labels: {wording.signed(best.ablated.value)}"
            + (f", a coin {wording.signed(view.coin)}" if view.coin is not None else "")
            if best and best.ablated
            else "ablation not run",
        )
    ]


def _headline_tile(view: CampaignView) -> list[Tile]:
    """Return the tile with the figure to quote, where it is not the plain one."""
    found = view.headline
    if found is None or found.kind == "plain":
        return []
    one = found.estimate
    bounds = f"{level(one)} {wording.signed(one.low)} to {wording.signed(one.high)}"
    if found.kind == "certify":
        return [Tile(f"Best {view.problem.figure}, certified", wording.signed(one.value), bounds)]
    name = f"Best {view.problem.figure}, less the luck of the best of {found.n_compared}"
    return [Tile(name, wording.signed(one.value), bounds)]


def _reference_tile(name: str, method: Method | None) -> Tile:
    """Return a tile with a baseline's PGR on the selection split, as in the neighbouring tiles."""
    if method is None or method.verified is None:
        return Tile(name, wording.NONE, "none was verified")
    return Tile(name, wording.signed(method.verified.value), f"{method.short}, selection")


def _figures(
    view: CampaignView, arms: Comparison | None, drawn: Mapping[str, str]
) -> dict[str, PageFigure | None]:
    # Its file has a title, which the page gives in its own words: it is drawn for each.
    wide = drawing.bare_svg(figures.curve_figure(view))
    narrow = drawing.bare_svg(figures.curve_figure(view, figures.NARROW))
    return {
        "curve": _page_figure(wide, narrow, "curve", _curve_alternative(view)),
        "standings": _row_figure(
            view, bars.standings_figure, "std", alternatives.standings(view), drawn.get("standings")
        ),
        "optimism": _row_figure(
            view, bars.optimism_figure, "opt", _optimism_alternative(view), drawn.get("optimism")
        ),
        "ablation": _row_figure(
            view, bars.ablation_figure, "abl", _ablation_alternative(view), drawn.get("ablation")
        ),
        "arms": _row_figure(
            arms,
            arm_figures.arms_figure,
            "arms",
            alternatives.arms(arms) if arms else "",
            drawn.get("arms"),
        ),
        "diversity": _row_figure(
            view,
            idea_figures.diversity_figure,
            "div",
            alternatives.diversity(view),
            drawn.get("diversity"),
        ),
        "complexity": _row_figure(
            view,
            idea_figures.complexity_figure,
            "size",
            alternatives.complexity(view),
            drawn.get("complexity"),
        ),
        "transfer": _row_figure(
            view,
            task_figures.transfer_figure,
            "tr",
            alternatives.transfers(view),
            drawn.get("transfer"),
        ),
        "accuracy": _row_figure(
            view,
            task_figures.accuracy_figure,
            "acc",
            alternatives.accuracies(view),
            drawn.get("accuracy"),
        ),
        "spend": _row_figure(
            view, arm_figures.spend_figure, "spend", alternatives.spend(view), drawn.get("spend")
        ),
    }


def _row_figure(
    view: Any, draw: Any, prefix: str, alternative: str, wide: str | None
) -> PageFigure | None:
    """Draw a figure for the page, all but its `wide` SVG where that is there already."""
    narrow = draw(view, wide=False)
    if narrow is None:
        return None
    return _page_figure(
        wide or drawing.bare_svg(draw(view)), drawing.bare_svg(narrow), prefix, alternative
    )


def _page_figure(wide: str, narrow: str, prefix: str, alternative: str) -> PageFigure:
    return PageFigure(
        Markup(drawing.inlined(wide, f"{prefix}-w")),
        Markup(drawing.inlined(narrow, f"{prefix}-n")),
        alternative,
    )


def _curve_alternative(view: CampaignView) -> str:
    parts = []
    for name, points in view.points_by_aar.items():
        if points:
            best = max(point.estimate.value for point in points)
            parts.append(f"{name} reaches {wording.signed(best)} in {len(points)} submissions")
    said = "; ".join(parts) or "No submissions"
    return f"{view.problem.figure} against cumulative research time. {said}."


def _optimism_alternative(view: CampaignView) -> str:
    parts = [
        f"{m.short}: search {wording.signed(m.search.value if m.search else None)}, selection "
        f"{wording.interval(m.verified)}" + _drop_words(view, m)
        for m in view.standing[: bars.SHOWN_OPTIMISM]
    ]
    name = view.problem.figure
    return f"Search and selection {name} of the verified methods. " + "; ".join(parts) + "."


def _drop_words(view: CampaignView, method: Method) -> str:
    drop = view.drop(method)
    if drop is None or drop.vanilla is None:
        return ""
    return f", fell {wording.difference(drop.value)} less vanilla's"


def _ablation_alternative(view: CampaignView) -> str:
    parts = [
        f"{m.short}: {wording.interval(m.verified)} with the teacher's labels, "
        f"{wording.interval(m.ablated)} with permuted ones"
        for m in view.standing
        if m.ablated
    ]
    return "Teacher ablation. " + "; ".join(parts[: bars.SHOWN_ABLATION]) + "."


def _spec_text(view: CampaignView) -> str:
    """Return the spec without the folder of the tasks: it names a machine and helps no one else."""
    settings = view.export.spec.get("settings")
    shown = view.export.spec
    if isinstance(settings, dict):
        kept = {key: value for key, value in settings.items() if key != "data_root"}
        shown = {**shown, "settings": kept}
    text = json.dumps(shown, indent=2, ensure_ascii=False)
    return text if len(text) <= MAX_SPEC_CHARS else text[:MAX_SPEC_CHARS] + "\n… cut here"
