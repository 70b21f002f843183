"""The figure that a report leads with: certified, shrunk for having been chosen, or none."""

import pytest
from matplotlib.text import Text

from aarlab.core.wire import BestFigure, CampaignExport
from aarlab.report import bars, prose, render, tables
from aarlab.report.view import campaign_view

from .conftest import estimate


def first(export: CampaignExport) -> str:
    return campaign_view(export).ranked[0].snapshot or ""


def shrunk(export: CampaignExport) -> CampaignExport:
    known = BestFigure(task="math", snapshot=first(export), n_compared=6, estimate=estimate(0.51))
    return export.model_copy(update={"best": [known]})


def test_the_best_of_several_leads_with_its_shrunk_figure_beside_the_plain_one(export) -> None:
    view = campaign_view(shrunk(export))
    assert view.headline is not None and view.headline.kind == "shrunk"
    lead, plain, *_ = render._tiles(view)
    assert (lead.name, lead.value) == ("Best PGR, less the luck of the best of 6", "0.51")
    assert lead.small == "95 % 0.40 to 0.63"
    assert (plain.name, plain.value) == ("Best PGR, verified", "0.60")
    said = prose.summary_paragraphs(view)[0]
    assert (
        "the best of 6, and the best of several is partly lucky. Corrected for that, the figure to"
        in said
    )
    assert "quote is 0.51 (95 % interval 0.40 to 0.63)" in said


def test_a_certified_figure_leads_before_a_shrunk_one(export) -> None:
    known = next(v for v in export.verifications if v.snapshot == first(export))
    again = known.model_copy(
        update={"id": "ver_certify", "split": "certify", "estimate": estimate(0.47)}
    )
    with_it = shrunk(export).model_copy(update={"verifications": [*export.verifications, again]})
    view = campaign_view(with_it)
    assert view.headline is not None
    assert (view.headline.kind, view.headline.estimate.value) == ("certify", 0.47)
    assert render._tiles(view)[0].name == "Best PGR, certified"
    assert "scored once and used to choose nothing: 0.47" in prose.headline_sentence(view)


def test_a_shrunk_figure_of_another_method_is_not_quoted(export) -> None:
    known = BestFigure(task="math", snapshot="0" * 40, n_compared=6, estimate=estimate(0.51))
    view = campaign_view(export.model_copy(update={"best": [known]}))
    assert view.headline is not None and view.headline.kind == "plain"
    assert "Export the campaign again" in prose.headline_sentence(view)


def test_where_nothing_is_above_the_teacher_nothing_ranks_and_nothing_leads(export) -> None:
    runs = [
        v if v.estimate is None else v.model_copy(update={"estimate": estimate(0.05)})
        for v in export.verifications
    ]
    view = campaign_view(export.model_copy(update={"verifications": runs}))
    assert view.ranked == () and len(view.standing) == 6 and view.headline is None
    at = [m.selection.at for m in view.standing if m.selection]
    assert at == sorted(at), "in the order of time"
    said = prose.summary_paragraphs(view)[0]
    assert "none ranks: the 6 verified methods had a PGR from 0.05 to 0.05" in said
    assert render._tiles(view)[0].small == "none is clearly above 0"
    assert view.verdict.startswith("No method is clearly above")
    page = render.render_page(view)
    assert "which says nothing about which is better" in page
    assert "not above 0" in page
    assert all(row.cells[1].small in ("not above 0", "") for row in tables.leaderboard(view).rows)


def test_one_seed_is_said_wherever_the_report_shows_an_interval(export) -> None:
    runs = [
        v
        if v.estimate is None
        else v.model_copy(update={"estimate": estimate(v.estimate.value, n_seeds=1)})
        for v in export.verifications
    ]
    sent = [
        s.model_copy(update={"exact": estimate(s.exact.value, n_seeds=1)})
        for s in export.submissions
    ]
    view = campaign_view(export.model_copy(update={"verifications": runs, "submissions": sent}))
    page = render.render_page(view)
    assert "(one seed, rows only: " in page and ", one seed]" in view.verdict
    figures = (bars.standings_figure(view), bars.optimism_figure(view))
    words = [t.get_text() for f in figures if f for t in f.findobj(Text)]
    assert any(w.startswith("PGR on the selection split, one seed, rows only:") for w in words)
    assert "selection, one seed, rows only" in words and not [w for w in words if "95 %" in w]
    assert "Those of one seed are not 95 % intervals" in page
    assert "95 % interval 0" not in page
    assert render._tiles(view)[0].small.startswith("one seed, rows only ")


@pytest.mark.parametrize("vanilla", [True, False])
def test_the_drop_is_less_vanillas_where_it_was_run(export, vanilla: bool) -> None:
    kept = [s for s in export.submissions if vanilla or s.method != "vanilla"]
    view = campaign_view(export.model_copy(update={"submissions": kept}))
    best = view.ranked[0]
    drop, cell = view.drop(best), tables.leaderboard(view).rows[0].cells[4]
    assert drop is not None
    if vanilla:  # .731 - .5994, less .118 - (.118 x .9 - .01)
        assert drop.value == pytest.approx(0.1316 - 0.0218)
        assert (cell.text, cell.small) == ("+0.11", "own +0.13; vanilla +0.02")
    else:
        assert drop.value == pytest.approx(0.1316)
        assert (cell.text, cell.small) == ("+0.13", "vanilla not run")
