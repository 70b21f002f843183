"""Open methods in the report: a table of their own, why they are open, stamps, sentences."""

import csv
import io
import json
from pathlib import Path

import pytest

from aarlab.core.wire import CampaignExport, Evidence, Verdict, Verification
from aarlab.report.data_files import SPREADSHEETS, summary_of
from aarlab.report.render import render_page
from aarlab.report.stories import stories
from aarlab.report.tables import leaderboard, methods_apart
from aarlab.report.view import CampaignView, campaign_view
from aarlab.report.write import markdown_of, write_report

BECAUSE = "the method says READS_TEXT = True"
SEEN = Evidence(
    programs=[], reached=[], compiled=0, row_texts=0, examples=[], truncated=False, forwarded=0.0,
    changed={"alone": 0.0}, disagreement=0.12, answer_equality=True,
)  # fmt: skip


def delivered(export: CampaignExport, *open_ones: str, blind: bool = True) -> CampaignExport:
    """All runs without texts but those of the guards and of `open_ones`."""

    def one(v: Verification) -> Verification:
        if v.snapshot in open_ones or v.aar == "guards" or not blind:
            because = {"delivery": "open", "open_because": BECAUSE, "train_rows": "hidden"}
            return v.model_copy(update=because)
        return v.model_copy(update={"delivery": "blind", "evidence": SEEN})

    return export.model_copy(update={"verifications": [one(v) for v in export.verifications]})


@pytest.fixture(scope="module")
def best(export: CampaignExport) -> str:
    found = campaign_view(export).ranked[0].snapshot
    assert found is not None
    return found


@pytest.fixture(scope="module")
def view(export: CampaignExport, best: str) -> CampaignView:
    return campaign_view(delivered(export, best))


def accepted(export: CampaignExport, snapshot: str) -> CampaignExport:
    given = Verdict(
        id="vdt_1", at="2026-11-20T11:00:00+00:00", snapshot=snapshot, decision="accepted",
        reason="read it", by="ann",
    )  # fmt: skip
    return export.model_copy(update={"verdicts": [given]})


def test_an_open_method_leaves_the_ranking_until_a_person_accepts_it(
    export: CampaignExport, view: CampaignView, best: str
) -> None:
    before = campaign_view(export)
    assert [m.snapshot for m in view.ranked] == [m.snapshot for m in before.ranked[1:]]
    assert [m.rank for m in view.ranked] == list(range(1, len(before.ranked)))
    assert view.best_guard == campaign_view(delivered(export)).best_guard is not None
    assert [m.snapshot for m in view.apart] == [best]
    again = campaign_view(accepted(delivered(export, best), best))
    assert again.ranked[0].snapshot == best and again.apart == ()
    assert methods_apart(again) is None


def test_both_tables_name_reason_and_stamps(view: CampaignView, best: str) -> None:
    table = methods_apart(view)
    assert table is not None and len(table.rows) == 1
    cells = table.rows[0].cells
    assert cells[1].text == BECAUSE and cells[2].small == "[0.50, 0.70]"
    main = leaderboard(view)
    first = main.rows[0].cells
    assert first[1].text == "1"
    assert first[2].small.endswith("] · train rows public · answer equality asked")
    assert len(main.rows) == len([m for m in view.methods if m.verified or m.role != "aar"]) - 1


def test_page_and_markdown_show_them_apart(view: CampaignView) -> None:
    text = render_page(view)
    assert "<caption>Methods apart: verified with texts or shipping data, not ranked" in text
    assert BECAUSE in text and "“train rows public”: it was trained on rows that AARs see" in text
    assert "rows without texts, train rows public, answer equality asked" in text
    assert "12.0% between two runs with other teachers" in text
    assert "before blind verification" not in text
    assert "### Methods apart: verified with texts" in markdown_of(view, [])


def test_the_verdict_and_the_first_sentences_are_about_what_ranks(view: CampaignView) -> None:
    assert "evan-14" not in view.verdict
    assert stories(view)[0].method == view.ranked[0]


def test_files_for_programs_keep_them_apart(view: CampaignView, best: str) -> None:
    def sheet(name: str) -> list[dict[str, str]]:
        return list(csv.DictReader(io.StringIO(SPREADSHEETS[name](view))))

    assert [row["snapshot"] for row in sheet("apart.csv")] == [best]
    assert sheet("apart.csv")[0]["open_because"] == BECAUSE
    rows = sheet("leaderboard.csv")
    assert best not in {row["snapshot"] for row in rows}
    assert rows[0]["delivery"] == "blind"
    assert rows[0]["stamps"] == "train rows public; answer equality asked"
    summary = summary_of(view)
    one = next(m for m in summary["methods"] if m["apart"])
    assert (one["delivery"], one["open_because"], one["rank"]) == ("open", BECAUSE, None)
    assert summary["best"]["delivery"] == "blind" and summary["delivery_note"] is None
    assert json.loads(json.dumps(summary)) == summary


def test_a_campaign_of_methods_apart_alone_says_so(export: CampaignExport, tmp_path: Path) -> None:
    mine = [v.snapshot for v in export.verifications if v.aar not in ("human", "guards")]
    view = campaign_view(delivered(export, *mine))
    assert view.ranked == () and view.apart
    assert view.verdict.startswith("No method was verified without texts and without shipped data.")
    text = render_page(view)
    assert "No method ranks: the best that stands apart, evan-14" in text
    assert "Best methods apart" in text and "wait for a person" in text
    assert "No method was re-run" not in text and "No method has been verified" not in text
    assert write_report(view.export, tmp_path).page.is_file(), "without any figure of ranked ones"


def test_what_ships_data_stands_apart_in_every_table(export: CampaignExport, best: str) -> None:
    ships = "more than logic needs of numbers (a head has 576): 9,000 numbers"

    def shipped(v: Verification) -> Verification:
        return v.model_copy(update={"ships": ships}) if v.snapshot == best else v

    blind = delivered(export)
    runs = [shipped(v) for v in blind.verifications]
    export = blind.model_copy(update={"verifications": runs})
    view = campaign_view(export)
    assert [m.snapshot for m in view.apart] == [best]
    assert best not in {m.snapshot for m in view.ranked}
    table = methods_apart(view)
    assert table is not None and table.rows[0].cells[1].text == f"ships data: {ships}"
    assert f"ships data: {ships}" in render_page(view)
    (row,) = csv.DictReader(io.StringIO(SPREADSHEETS["apart.csv"](view)))
    assert (row["snapshot"], row["apart_because"]) == (best, f"ships data: {ships}")
    assert (row["delivery"], row["open_because"], row["rank"]) == ("blind", "", "")
    one = next(m for m in summary_of(view)["methods"] if m["apart"])
    assert one["apart_because"] == f"ships data: {ships}" and one["open_because"] is None
    assert campaign_view(accepted(export, best)).ranked[0].snapshot == best


def test_an_old_run_says_once_that_it_had_texts(export: CampaignExport) -> None:
    view = campaign_view(export)
    assert render_page(view).count("before blind verification") == 1
    assert methods_apart(view) is None and not any(m.stamps for m in view.methods)


def test_a_task_that_cannot_be_blind_names_the_reason(export: CampaignExport) -> None:
    view = campaign_view(delivered(export, blind=False))
    assert view.ranked and methods_apart(view) is None
    assert f"All these methods were verified with texts: {BECAUSE}." in render_page(view)
