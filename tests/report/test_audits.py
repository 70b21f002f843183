"""Audits and verdicts in the report."""

from aarlab.core.wire import Audit, CampaignExport, Verdict
from aarlab.report.render import render_page
from aarlab.report.tables import audits, leaderboard
from aarlab.report.view import campaign_view

SCRIPT = "<script>alert(1)</script>"


def flagged(export: CampaignExport, decision: str | None = None) -> CampaignExport:
    best = campaign_view(export).ranked[0]
    audit = Audit(
        id="aud_1",
        at="2026-11-20T10:00:00+00:00",
        kind="shortcut",
        aar=best.aar,
        snapshot=best.snapshot,
        task="math",
        severity="suspect",
        summary=f"rows are compared {SCRIPT}",
    )
    verdicts = []
    if decision:
        verdicts = [
            Verdict(
                id="vdt_1",
                at="2026-11-20T11:00:00+00:00",
                snapshot=best.snapshot,
                decision=decision,
                reason=f"group {SCRIPT}",
                by="ann",
            )
        ]
    return export.model_copy(update={"audits": [audit], "verdicts": verdicts})


def test_a_suspect_method_is_marked_and_still_ranks(export: CampaignExport) -> None:
    view = campaign_view(flagged(export))
    assert view.ranked[0].flags[0].kind == "shortcut"
    cell = leaderboard(view).rows[0].cells[8]
    assert (cell.text, cell.small, cell.tone) == ("suspect", "shortcut", "warn")


def test_a_disqualified_method_is_shown_without_a_rank(export: CampaignExport) -> None:
    before, after = campaign_view(export), campaign_view(flagged(export, "disqualified"))
    gone = before.ranked[0].snapshot
    assert gone not in {m.snapshot for m in after.ranked}
    row = next(r for r in leaderboard(after).rows if r.cells[0].text == before.ranked[0].name)
    assert (
        row.cells[1].text == "–" or row.cells[1].text == leaderboard(before).rows[-1].cells[1].text
    )
    assert row.cells[8].text == "disqualified"
    assert len(audits(after).rows) == 2


def test_an_accepted_method_ranks_again(export: CampaignExport) -> None:
    view = campaign_view(flagged(export, "accepted"))
    assert len(view.ranked) == len(campaign_view(export).ranked)


def test_findings_and_reasons_are_quoted(export: CampaignExport) -> None:
    page = render_page(campaign_view(flagged(export, "disqualified")))
    assert SCRIPT not in page and "group &lt;script&gt;" in page


def test_without_findings_there_is_no_table(export: CampaignExport) -> None:
    assert audits(campaign_view(export)) is None
