"""A campaign from spec to export, with real processes, sandboxes and database."""

import json
import stat

import pytest
from seeded_server import fixed_seeds
from toy_campaign import (
    EXPECTED_SUBMISSIONS,
    EXPECTED_VERIFICATIONS,
    TRIALS,
    processes_of,
    toy_spec,
)

from aarlab.campaign.runner import create, export_of, run_campaign
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.errors import Conflict, Damaged, NotFound
from aarlab.core.hashing import LogHead
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.report.load import load_export
from aarlab.report.write import write_report
from aarlab.store.log import verify_log

Toy = tuple[RunDir, CampaignExport]


def test_every_trial_is_submitted_once_and_posted(toy_run: Toy) -> None:
    _, export = toy_run
    assert len(export.submissions) == EXPECTED_SUBMISSIONS
    by_aar = {aar.name: [s for s in export.submissions if s.aar == aar.name] for aar in export.aars}
    assert {name: len(found) for name, found in by_aar.items()} == {
        "rowan": TRIALS,
        "edda": TRIALS,
        "human": 1,
        "guards": 1,
    }
    assert len(export.findings) == EXPECTED_SUBMISSIONS
    assert all(finding.score is not None for finding in export.findings)


def test_the_best_are_verified_and_ablated(toy_run: Toy) -> None:
    _, export = toy_run
    assert len(export.verifications) == EXPECTED_VERIFICATIONS
    assert all(v.state == "done" and v.estimate is not None for v in export.verifications)
    assert {v.isolation for v in export.verifications} == {"bubblewrap"}
    assert {tuple(v.run_seeds) for v in export.verifications} == {tuple(fixed_seeds(4))}
    ablated = sorted(v.ablation for v in export.verifications if v.ablation != "none")
    assert ablated == ["flipped", "noise", "permuted"]


def test_honest_methods_come_clean_out_of_the_battery(toy_run: Toy) -> None:
    _, export = toy_run
    kinds = {audit.kind for audit in export.audits}
    assert kinds == {"rerun", "ablation", "shortcut", "teacher", "ceiling",
                     "fingerprint", "forensics", "static", "copy"}  # fmt: skip
    assert [a for a in export.audits if a.severity == "suspect"] == []


def test_every_snapshot_has_an_idea_in_the_export(toy_run: Toy) -> None:
    _, export = toy_run
    assert [idea.snapshot for idea in export.ideas] == [s.id for s in export.snapshots]
    recipes = [i for i in export.ideas if i.complexity and i.complexity.options is not None]
    assert len(recipes) == 2 * TRIALS and all(idea.family for idea in recipes)


def test_research_hours_and_spend_add_up(toy_run: Toy) -> None:
    _, export = toy_run
    hours = [s.research_h for s in sorted(export.submissions, key=lambda s: s.at)]
    assert hours == sorted(hours) and hours[-1] > 0
    total_h = sum(aar.research_s for aar in export.aars) / 3600
    assert hours[-1] <= total_h + 1e-9
    assert all(aar.spend["device_s"] > 0 for aar in export.aars)


def test_the_log_is_intact_and_ends_at_the_exported_head(toy_run: Toy) -> None:
    run, export = toy_run
    head = LogHead(export.head.seq, export.head.hash)
    assert verify_log(run.database, head) == head


def test_what_is_closed_is_closed(toy_run: Toy) -> None:
    run, _ = toy_run
    for path in (run.platform, run.tokens, run.aar("rowan") / "workspace"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700, path
    assert stat.S_IMODE((run.tokens / "rowan").stat().st_mode) == 0o600
    assert not list(run.verifier.glob("ver_*")), "a verifier's workspace with hidden rows is left"


def test_no_process_is_left(toy_run: Toy) -> None:
    assert processes_of(toy_run[0].path) == []


def test_running_it_again_changes_nothing(toy_run: Toy, toy_root: DataRoot) -> None:
    run, export = toy_run
    again = run_campaign(run, toy_root, lambda kind, facts: None)
    assert again.submissions == export.submissions
    assert again.verifications == export.verifications
    assert export_of(run, toy_root, run.path / "other.json").findings == export.findings


def test_the_report_is_made_from_the_export_alone(toy_run: Toy) -> None:
    run, _ = toy_run
    files = write_report(load_export(run.export), run.path / "elsewhere")
    summary = json.loads(files.summary.read_text())
    assert summary["submissions"] == 2 * TRIALS and summary["isolated"] is True


def test_a_folder_holds_one_campaign(toy_run: Toy) -> None:
    run, _ = toy_run
    create(run, toy_spec(), {})
    other = CampaignSpec.model_validate({**toy_spec().model_dump(), "name": "other"})
    with pytest.raises(Conflict, match="holds another campaign"):
        create(run, other, {})


def test_folders_without_or_with_a_damaged_campaign(tmp_path, toy_root: DataRoot) -> None:
    with pytest.raises(NotFound, match=r"no spec\.json"):
        run_campaign(RunDir(tmp_path / "none"), toy_root, lambda kind, facts: None)
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(Damaged, match=r"spec\.json"):
        run_campaign(RunDir(tmp_path), toy_root, lambda kind, facts: None)
