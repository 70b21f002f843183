"""Comparisons of campaigns and arms: files, notes on fairness, hostile names; the commands."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import BadInput
from aarlab.core.ideas import Complexity, Idea
from aarlab.core.wire import CampaignExport
from aarlab.report import load_export
from aarlab.report.compare import compare_campaigns, unfair, write_arms, write_comparison
from aarlab.report.more_tables import hacks, transfers
from aarlab.report.view import campaign_view

from .conftest import SCRIPT
from .test_audits import flagged

GOLDEN = Path(__file__).parent / "golden" / "export.json"


def test_two_campaigns_with_one_team_each_have_no_interval(
    export: CampaignExport, tmp_path: Path
) -> None:
    weaker = export.model_copy(update={"campaign": f"other {SCRIPT}"})
    comparison = compare_campaigns(export, weaker)
    found = comparison.differences["verified"][0]
    assert (found.value, found.low, found.n_a, found.n_b) == (0.0, None, 1, 1)
    assert write_comparison(export, weaker, tmp_path) == []
    page = (tmp_path / "comparison.html").read_text()
    assert SCRIPT not in page and "<script" not in (tmp_path / "comparison.md").read_text()
    assert "one replicate: no interval" in page and "from rows and seeds alone" in page


def test_what_makes_a_comparison_unfair_is_said(export: CampaignExport) -> None:
    task = export.tasks[0].model_copy(update={"content_hash": "b" * 64, "pair": "qwen"})
    spec = {"campaign": {"limits": {"hours": 2}}, "settings": {"commit": "abc"}}
    other = export.model_copy(
        update={"tasks": [task], "spec": spec, "aars": export.aars[1:], "campaign": "b"}
    )
    notes = "\n".join(unfair(export, other))
    for word in ("other rows or weak labels", "pair embedded against qwen", "limits: None against",
                 "AARs: 3 against 2", "commit: unknown against abc"):  # fmt: skip
        assert word in notes
    assert unfair(export, export) == []


def test_nothing_to_compare_is_an_error(export: CampaignExport, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="one arm"):
        write_arms(export, tmp_path)
    task = export.tasks[0].model_copy(update={"name": "code"})
    with pytest.raises(BadInput, match="different tasks"):
        compare_campaigns(export, export.model_copy(update={"tasks": [task], "submissions": []}))


@pytest.fixture(scope="module")
def by_command(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `aarlab report` wrote of the golden campaign, which has arms."""
    folder = tmp_path_factory.mktemp("by-command") / "r"
    done = CliRunner().invoke(cli, ["report", str(GOLDEN), "--out", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def test_commands_write_and_say_where(tmp_path: Path, by_command: Path) -> None:
    run = CliRunner()
    out = str(tmp_path / "c")
    done = run.invoke(cli, ["report", "compare", str(GOLDEN), str(GOLDEN), "--out", out])
    assert done.exit_code == 0, done.output
    found = json.loads((tmp_path / "c" / "comparison.json").read_text())
    assert found["differences"]["verified"][0]["value"] == 0.0
    done = run.invoke(cli, ["campaign", "compare", str(GOLDEN), "--out", str(tmp_path / "a")])
    assert done.exit_code == 0 and "undirected" in done.output
    assert (by_command / "index.html").exists()


def test_a_campaign_with_arms_shows_all_its_figures(by_command: Path) -> None:
    names = {path.name for path in by_command.iterdir()}
    for figure in ("arms", "transfer", "diversity", "complexity", "spend", "accuracy"):
        assert {f"{figure}.png", f"{figure}.svg"} <= names
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", (by_command / "index.html").read_text()))
    for said in ("Only 3 replicates in the smallest arm",
                 "Classified by the keyword rules of aarlab, version 1 (",
                 "No language model did research here", "commit 999ff4aab47c"):  # fmt: skip
        assert said in text, said


def test_a_disqualified_method_is_listed_with_what_it_would_have_scored(
    export: CampaignExport,
) -> None:
    table = hacks(campaign_view(flagged(export, "disqualified")))
    cells = [cell.text for cell in table.rows[0].cells]
    assert cells[1:3] == ["disqualified", "shortcut"]
    assert cells[4].startswith("0.60 [") and cells[5] == "1"
    assert hacks(campaign_view(export)) is None
    assert transfers(campaign_view(export)) is not None


def test_judged_families_replace_the_keywords(export: CampaignExport, tmp_path: Path) -> None:
    snapshot = export.snapshots[0].id
    idea = Idea(
        snapshot=snapshot,
        family="loss",
        classifier="keywords-1",
        complexity=Complexity(lines=3, nodes=9),
    )
    given = export.model_copy(update={"ideas": [idea]})
    (tmp_path / "export.json").write_text(given.model_dump_json())
    assert load_export(tmp_path / "export.json").ideas == [idea]
    (tmp_path / "ideas.json").write_text(
        json.dumps({snapshot: {"by": "a/model 12", "family": "probing"}})
    )
    judged = load_export(tmp_path / "export.json").ideas[0]
    assert (judged.family, judged.classifier, judged.complexity) == (
        "probing", "a/model 12", idea.complexity,
    )  # fmt: skip
