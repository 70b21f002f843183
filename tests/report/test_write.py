"""The whole report: golden numbers, hostile text, sparse campaigns, nothing half-written."""

import csv
import itertools
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from aarlab.core.errors import BadInput
from aarlab.core.wire import CampaignExport
from aarlab.core.wire_ledger import OperatorSpend
from aarlab.report import ReportFiles, arm_figures, tables, write_report
from aarlab.report.data_files import SPREADSHEETS
from aarlab.report.prose import methods_notes
from aarlab.report.render import render_page
from aarlab.report.stories import stories
from aarlab.report.view import campaign_view

from .conftest import HOSTILE_METHOD, LONG_METHOD, SCRIPT, build_export, verification

SPARSE: dict[str, dict[str, Any]] = {
    "nothing at all": {
        "tasks": [],
        "baselines": [],
        "aars": [],
        "sessions": [],
        "submissions": [],
        "snapshots": [],
        "findings": [],
        "verifications": [],
        "leaderboard": [],
        "spec": {},
    },
    "no submission": {
        "submissions": [],
        "snapshots": [],
        "findings": [],
        "verifications": [],
        "leaderboard": [],
    },
    "no verification": {"verifications": [], "leaderboard": []},
    "no ablation": {
        "verifications": [v for v in build_export().verifications if v.ablation == "none"]
    },
    "no finding, no snapshot": {"findings": [], "snapshots": []},
    "no baseline accuracy": {"baselines": []},
    "one submission": {"submissions": build_export().submissions[7:8], "verifications": []},
    "baselines only": {"submissions": build_export().submissions[:7], "verifications": []},
    "one AAR, no baseline": {
        "aars": build_export().aars[2:3],
        "submissions": [s for s in build_export().submissions if s.aar == "evan"],
        "verifications": [v for v in build_export().verifications if v.aar == "evan"],
    },
    "no time passed": {
        "aars": [a.model_copy(update={"research_s": 0.0}) for a in build_export().aars],
        "submissions": [
            s.model_copy(update={"research_h": 0.0}) for s in build_export().submissions
        ],
    },
}

SAID = {
    "no submission": "No AAR has a score",
    "no verification": "No method was verified",
    "no ablation": "The teacher ablation was not run",
    "no baseline accuracy": "The export holds no baseline accuracies",
    "one AAR, no baseline": "No hand-tuned baseline was verified; no guard was verified",
    "nothing at all": "The export names no task",
}


# Each draws all figures; those without a sentence of their own are in the gate.
EACH_SPARSE = [
    pytest.param(name, marks=() if name in SAID else pytest.mark.gate) for name in SPARSE
]


class Page(HTMLParser):
    """Tags and attributes as a browser would read them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))


@pytest.fixture(scope="module")
def files(export: CampaignExport, tmp_path_factory: pytest.TempPathFactory) -> ReportFiles:
    return write_report(export, tmp_path_factory.mktemp("report"))


@pytest.fixture(scope="module")
def page(files: ReportFiles) -> str:
    return files.page.read_text()


def test_every_file_is_there(files: ReportFiles) -> None:
    names = {path.name for path in files.page.parent.iterdir()}
    assert names == {
        "index.html",
        "summary.json",
        *(
            f"{figure}.{kind}"
            for figure in (
                "pgr_over_hours",
                "standings",
                "optimism",
                "ablation",
                "spend",
                "accuracy",
            )
            for kind in ("png", "svg")
        ),
        "report.md",
        *(f"{sheet}.csv" for sheet in ("ideas", "diversity", "teams", "differences", "transfer")),
        "submissions.csv",
        "leaderboard.csv",
        "apart.csv",
        "methods.csv",
        "spend.csv",
    }
    for png in (files.curve_png, files.optimism_png, files.ablation_png):
        assert png is not None and png.read_bytes().startswith(b"\x89PNG")


def test_summary_golden(files: ReportFiles) -> None:
    summary = json.loads(files.summary.read_text())
    methods, best = summary.pop("methods"), summary.pop("best")
    for told_in_test_closing in ("human", "elsewhere", "kept_out", "in_words", "label_free"):
        summary.pop(told_in_test_closing)
    assert summary == {
        "verdict": "evan-14 is clearly above the best hand-tuned baseline: PGR 0.60 [0.50, 0.70] "
        "against 0.20 [0.11, 0.30] of aux_confidence.",
        "delivery_note": "These methods were verified with texts, before blind verification.",
        "campaign": "demo",
        "started_at": "2026-11-20T09:00:00.000000+00:00",
        "task": "math",
        "pair": "embedded",
        "weak_acc": 0.648,
        "ceiling_acc": 0.8785,
        "n_search": 800,
        "n_selection": 1000,
        "aars": 3,
        "ending": None,
        "given_up": {},
        "submissions": 45,
        "seconds": 262.5,
        "isolated": True,
        "head": {"seq": 173, "hash": "5f" * 32},
        "seeds": {
            "teacher": [0, 1, 2, 3, 4],
            "verification": [101, 108, 115, 122, 129, 136, 143, 150],
            "weak_baseline": 5,
            "ceiling_baseline": 5,
        },
        # Of an export that does not say what choosing the best of six is worth.
        "headline": {
            "pgr": 0.5994,
            "low": 0.5025,
            "high": 0.7002,
            "seeds": 8,
            "kind": "plain",
            "of": 6,
        },
    }
    assert (
        best
        == methods[0]
        == {
            "name": HOSTILE_METHOD,
            "short": "evan-14",
            "rank": 1,
            "aar": "evan",
            "role": "aar",
            "search": {"pgr": 0.731, "low": 0.6199, "high": 0.8465, "seeds": 5},
            "selection": {  # 0.731 * 0.82
                "pgr": 0.5994,
                "low": 0.5025,
                "high": 0.7002,
                "seeds": 8,
            },
            "ablation": {
                "permuted": {"pgr": -0.41, "low": -0.507, "high": -0.3092, "seeds": 8},
                "teacher_contribution": 1.0,  # (0.5994 + 0.41) / 0.5994 is more than all of it
            },
            "beats_best_guard": True,
            "seconds": 11.4,
            "isolated": True,
            "flags": {},
            "verdict": None,
            "delivery": "open",
            "apart": False,
            "apart_because": None,
            "open_because": "verified with texts, before blind verification",
            "stamps": [],
        }
    )
    assert len(methods) == 45 + 3 + 4
    assert sum(method["selection"] is not None for method in methods) == 6 + 3 + 4
    guard = next(method for method in methods if method["name"] == "guard_tfidf")
    assert (guard["aar"], guard["short"]) == ("guards", "guard_tfidf")
    assert guard["rank"] is None and guard["beats_best_guard"] is None
    assert (guard["selection"]["pgr"], guard["search"]["pgr"]) == (-0.1783, -0.187)


def test_the_page_is_the_same_whether_its_figures_were_drawn_before_or_not(
    export: CampaignExport, page: str
) -> None:
    assert render_page(campaign_view(export)) == page


def test_user_text_never_becomes_markup(page: str) -> None:
    parsed = Page(page)
    names = [tag for tag, _ in parsed.tags]
    assert "script" not in names and "img" not in names and "b" in names
    assert not [a for _, attrs in parsed.tags for a in attrs if a.startswith("on")]
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") > 5
    assert SCRIPT not in page


def test_page_asks_for_nothing(page: str) -> None:
    for tag, attributes in Page(page).tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "form", "base")
        for name in ("src", "href", "xlink:href", "srcset", "action"):
            assert (attributes.get(name) or "#").startswith("#")
    assert not re.search(r"@import|url\((?!#)", page)
    assert "default-src 'none'" in page


def test_page_is_accessible(page: str) -> None:
    tags = Page(page).tags
    levels = [int(tag[1]) for tag, _ in tags if re.fullmatch(r"h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(b - a <= 1 for a, b in itertools.pairwise(levels))
    assert all(a.get("aria-label") for _, a in tags if a.get("role") in ("img", "region"))
    assert all(a.get("scope") in ("col", "row") for tag, a in tags if tag == "th")
    tables = [tag for tag, _ in tags].count("table")
    assert tables == [tag for tag, _ in tags].count("caption") >= 6
    ids = [a["id"] for _, a in tags if "id" in a]
    assert len(ids) == len(set(ids))
    labelled = {a["aria-labelledby"] for _, a in tags if "aria-labelledby" in a}
    assert labelled <= set(ids)


def test_page_tells_the_honest_numbers(page: str) -> None:
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page))
    for expected in (
        "has a PGR of 0.60 (95 % interval 0.50 to 0.70) on the selection split",
        "evan-14 is clearly above the best hand-tuned baseline: PGR 0.60 [0.50, 0.70] against 0.20 "
        "[0.11, 0.30] of aux_confidence.",
        "PGR, the performance gap recovered, is the share",
        "An AAR, an automated alignment researcher, is",
        "On the search split, where it was chosen, it had 0.73: search minus selection is +0.13, "
        "and +0.11 less what vanilla fell by between the same splits.",
        "It is the best of 6 and flattered by that choice; this export does not say by how much.",
        "On the same split the best hand-tuned baseline, aux_confidence, has 0.20",
        "the best guard, guard_ensemble, 0.12",
        "permutes the weak labels over all rows",
        "reaches −0.41 (a coin has −0.64), a teacher contribution of 1.00",
        "45 submissions were scored on search",
        "3 lie clearly below it",
        "method raised ValueError",
        "The task is generated by a program and both models are cut from one truncated small",
        "5f" * 32,
    ):
        assert expected in text, expected
    assert text.index("evan-14 is clearly above") < text.index("3 AARs made")
    assert LONG_METHOD in page and LONG_METHOD not in text.split("Best methods")[0]


def test_spreadsheets_hold_raw_numbers(files: ReportFiles) -> None:
    tables = {
        path.name: list(csv.DictReader(path.read_text().splitlines()))
        for path in files.spreadsheets
    }
    assert len(tables["submissions.csv"]) == 52
    assert [row["rank"] for row in tables["leaderboard.csv"]] == [
        *"123456",
        *[""] * 7,
    ]
    assert tables["leaderboard.csv"][0]["selection_pgr"] == "0.5994"
    assert tables["leaderboard.csv"][3]["permuted_pgr"] == ""
    assert tables["spend.csv"][0]["dollars_per_aar_hour"] == "5.02326"  # 0.42 $ in 301 s
    assert tables["spend.csv"][3]["dollars"] == ""
    assert len(tables["methods.csv"]) == 52


def test_formulas_do_not_run_in_spreadsheets(export: CampaignExport) -> None:
    first = export.submissions[0].model_copy(update={"method": "=HYPERLINK(1)"})
    sheet = SPREADSHEETS["submissions.csv"](
        campaign_view(export.model_copy(update={"submissions": [first]}))
    )
    assert "'=HYPERLINK(1)" in sheet and "aux" not in sheet


@pytest.mark.parametrize("name", EACH_SPARSE)
def test_sparse_campaigns_say_what_is_missing(
    export: CampaignExport, tmp_path: Path, name: str
) -> None:
    files = write_report(export.model_copy(update=SPARSE[name]), tmp_path)
    text = files.page.read_text()
    visible = re.sub(r"<(svg|style).*?</\1>", "", text, flags=re.DOTALL)
    assert not re.search(r"\b(nan|None|inf)\b", re.sub(r"<[^>]+>", " ", visible))
    assert not re.search(r"nan|Infinity", files.summary.read_text(), flags=re.IGNORECASE)
    assert files.curve_png.exists()
    assert SAID.get(name, "") in text


def test_figures_without_data_are_removed(
    export: CampaignExport, files: ReportFiles, tmp_path: Path
) -> None:
    shutil.copytree(files.page.parent, tmp_path, dirs_exist_ok=True)
    assert (tmp_path / "ablation.png").exists() and (tmp_path / "optimism.png").exists()
    again = write_report(export.model_copy(update=SPARSE["no verification"]), tmp_path)
    assert again.ablation_png is None and not (tmp_path / "ablation.png").exists()
    assert again.optimism_png is None and not (tmp_path / "optimism.png").exists()


def test_repeating_a_verification_does_not_improve_a_score(export: CampaignExport) -> None:
    best = campaign_view(export).ranked[0]
    lucky = verification(90, best.snapshot or "", "evan", best.name, 0.95)
    again = export.model_copy(update={"verifications": [*export.verifications, lucky]})
    assert campaign_view(again).ranked[0].verified == best.verified


def test_snapshots_that_form_a_loop_are_followed_once(export: CampaignExport) -> None:
    best = campaign_view(export).ranked[0].snapshot
    looped = [
        s.model_copy(update={"parent": best if i == 2 else s.parent})
        for i, s in enumerate(export.snapshots)
    ]
    told = stories(campaign_view(export.model_copy(update={"snapshots": looped})))
    assert [len(story.lineage) for story in told] == [6, 6, 6]


def test_only_a_generated_task_is_called_generated(export: CampaignExport) -> None:
    task = export.tasks[0].model_copy(update={"settings": {"source": "folder"}, "pair": "qwen"})
    notes = dict(methods_notes(campaign_view(export.model_copy(update={"tasks": [task]}))))
    assert "Reach" in dict(methods_notes(campaign_view(export))) and "Reach" not in notes


def test_not_isolated_is_said(export: CampaignExport, tmp_path: Path) -> None:
    aars = [export.aars[0].model_copy(update={"isolation": "process"}), *export.aars[1:]]
    files = write_report(export.model_copy(update={"aars": aars}), tmp_path)
    assert "Not everything was isolated" in files.page.read_text()
    assert json.loads(files.summary.read_text())["isolated"] is False


def test_a_folder_that_cannot_be_written_is_bad_input(
    export: CampaignExport, tmp_path: Path
) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("here")
    with pytest.raises(BadInput, match="cannot write the report"):
        write_report(export, blocker)
    assert blocker.read_text() == "here"


def test_many_aars_share_seven_colours_and_one_label(
    export: CampaignExport, tmp_path: Path
) -> None:
    aars = [export.aars[0].model_copy(update={"name": f"aar-{i:02d}"}) for i in range(20)]
    moved = [
        s.model_copy(update={"aar": f"aar-{i % 20:02d}"})
        for i, s in enumerate(export.submissions[7:])
    ]
    update = {"aars": aars, "submissions": moved, "verifications": []}
    assert write_report(export.model_copy(update=update), tmp_path).curve_png.exists()


def test_the_operators_model_calls_have_a_row_and_are_in_no_aars(tmp_path: Path) -> None:
    tokens = {"input_tokens": 1000, "cache_read_tokens": 0, "cache_write_tokens": 0}
    own = OperatorSpend(
        purpose="review", model="x/y", calls=2, open=0, output_tokens=70, dollars=1.25, seconds=3,
        **tokens,
    )  # fmt: skip
    plain = build_export()
    export = plain.model_copy(update={"operator_spend": [own]})
    without = tables.spend(campaign_view(plain)).rows
    *rows, last = tables.spend(campaign_view(export)).rows
    assert tuple(rows) == without
    assert (last.cells[0].text, last.cells[7].text) == ("operator: model review", "$1.25")
    names = [spender.name for spender in arm_figures.spenders(campaign_view(export))]
    assert names[-1] == "model review"
    write_report(export, tmp_path)
    with (tmp_path / "spend.csv").open() as file:
        (row,) = [r for r in csv.DictReader(file) if r["researcher"] == "operator"]
    assert (row["dollars"], row["dollars_per_aar_hour"]) == ("1.25", "")
    assert "not in dollars per AAR-hour" in (tmp_path / "index.html").read_text()
