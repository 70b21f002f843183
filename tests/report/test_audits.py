"""Audits and verdicts in the report."""

from aarlab.core.wire import Audit, CampaignExport, CaseVerdict, Verdict
from aarlab.report.more_tables import hacks
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
    row = next(r for r in leaderboard(after).rows if r.cells[0].text == before.ranked[0].short)
    assert row.cells[1].text == "–"
    assert [r.cells[0].text for r in leaderboard(after).rows][-1] == row.cells[0].text
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


def test_a_confirmed_finding_about_an_aar_takes_its_methods_out(export: CampaignExport) -> None:
    before = campaign_view(export)
    author = before.ranked[0].aar
    case = CaseVerdict(
        id="cvt_1",
        at="2026-11-20T11:00:00+00:00",
        audit="aud_9",
        aar=author,
        task="math",
        decision="confirmed",
        disqualifies="task",
        reason=f"flips rows {SCRIPT}",
        by="ann",
    )
    view = campaign_view(export.model_copy(update={"case_verdicts": [case]}))
    assert author not in {m.aar for m in view.ranked} and view.ranked
    caught = hacks(view)
    assert caught is not None and {row.cells[0].text.rsplit("-", 1)[0] for row in caught.rows} == {
        author
    }
    assert "finding aud_9 about" in caught.rows[0].cells[1].small
    (row,) = audits(view).rows
    assert (row.cells[0].text, row.cells[1].small) == ("confirmed", author)
    assert "all its methods on math are disqualified" in row.cells[2].text
    assert SCRIPT not in render_page(view)
    taken_back = case.model_copy(
        update={"id": "cvt_2", "decision": "dismissed", "disqualifies": "nothing",
                "at": "2026-11-20T12:00:00+00:00"}
    )  # fmt: skip
    view = campaign_view(export.model_copy(update={"case_verdicts": [case, taken_back]}))
    assert [m.snapshot for m in view.ranked] == [m.snapshot for m in before.ranked]
