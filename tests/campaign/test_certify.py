"""The last score: the best-ranked method on certify, once, whatever is killed, or why none."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from toy_campaign import command, finished, toy_spec

from aarlab.campaign import runner
from aarlab.campaign.policy import best_of, certify_best
from aarlab.campaign.registration import Campaign
from aarlab.campaign.runner import create, open_spec, run_campaign
from aarlab.campaign.spec import AarSpec, CampaignSpec
from aarlab.campaign.supervision import operator_of
from aarlab.campaign.watch import EventLog, last_certified
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport
from aarlab.report.load import load_export

SEEDS = 4
Toy = tuple[RunDir, CampaignExport]


def silent(kind: str, facts: dict[str, object]) -> None:
    pass


def small_spec(certify: bool) -> CampaignSpec:
    toy = toy_spec()
    verify = toy.verify.model_copy(update={"top": 2, "ablate_top": 0, "certify": certify})
    verify = verify.model_copy(update={"seeds": SEEDS})
    ranks = ["truth_mean", "zero_shot"]  # clearly above the weak teacher on this task
    aars = [AarSpec(name="rowan", researcher="fixed", methods=ranks)]
    changes = {"aars": aars, "verify": verify}
    return toy.model_copy(update={**changes, "device_dollars_per_hour": 3600.0})


def certify_runs(export: CampaignExport) -> list[str]:
    return [v.snapshot for v in export.verifications if v.split == "certify"]


@pytest.fixture(scope="module")
def without(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    """A campaign that was switched off to certify, at its end."""
    run = RunDir(tmp_path_factory.mktemp("certify") / "run")
    create(run, small_spec(certify=False), {}, toy_root)
    export = run_campaign(run, toy_root, silent)
    assert certify_runs(export) == [] and last_certified(run) == []
    return run


def copied(run: RunDir, folder: Path) -> RunDir:
    """The campaign as a kill between its last re-run and certify leaves it."""
    made = RunDir(folder / "run")
    shutil.copytree(run.path, made.path, ignore=shutil.ignore_patterns("socket", "*.lock"))
    spec = json.loads(made.spec.read_text())
    spec["campaign"]["verify"]["certify"] = True
    made.spec.write_text(json.dumps(spec))
    return made


def asked(run: RunDir, root: DataRoot) -> list[dict]:
    """What the campaign asks for before it is killed again."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, silent))
    with runner._server(campaign), operator_of(run) as operator:
        return [one.model_dump() for one in certify_best(operator, ["gauss"], SEEDS)]


@pytest.mark.gate
def test_the_best_ranked_method_is_scored_once_however_often_it_is_killed(
    without: RunDir, toy_root: DataRoot, tmp_path: Path
) -> None:
    run = copied(without, tmp_path)
    best = load_export(run.export).leaderboard[0].snapshot
    (queued,) = asked(run, toy_root)
    assert (queued["state"], queued["seeds"]) == ("queued", SEEDS)
    assert asked(run, toy_root) == [], "it is queued already"
    export = run_campaign(run, toy_root, silent)
    assert certify_runs(export) == [best]
    found = best_of(export, "gauss")
    assert found is not None and found.run is not None and found.run.estimate is not None
    assert found.run.id in {v.id for v in export.verifications if v.state == "done"}
    (told,) = last_certified(run)
    assert (told.task, told.state, told.method) == ("gauss", "done", found.name)
    assert told.seconds == found.run.seconds > 0
    assert told.dollars == pytest.approx(told.seconds), "a dollar a second"
    again = run_campaign(run, toy_root, silent)
    assert again.verifications == export.verifications
    code, out = finished(command(toy_root, "campaign", "status", str(run.path)))
    assert code == 0 and f"certify on gauss: {found.name}, {SEEDS} seeds, done" in " ".join(
        out.split()
    )


@pytest.mark.gate
def test_a_method_that_became_the_best_later_is_scored_in_its_turn(
    without: RunDir, toy_root: DataRoot, tmp_path: Path
) -> None:
    run = copied(without, tmp_path)
    first, second = (line.snapshot for line in load_export(run.export).leaderboard[:2])
    asked(run, toy_root)
    words = ("verdict", str(run.path), first[:12], "disqualified", "--reason", "r", "--by", "ann")
    assert finished(command(toy_root, *words))[0] == 0
    assert certify_runs(run_campaign(run, toy_root, silent)) == [first, second]


@pytest.mark.gate
def test_a_task_without_certify_baselines_says_so_and_the_campaign_ends(
    without: RunDir, toy_root: DataRoot, tmp_path: Path
) -> None:
    run, root = copied(without, tmp_path), DataRoot(tmp_path / "data")
    shutil.copytree(toy_root.path, root.path)
    for path in root.vault.glob("gauss*/baselines.npz"):
        with np.load(path) as arrays:
            kept = {name: arrays[name] for name in arrays.files if "certify" not in name}
        np.savez(path, **kept)
    export = run_campaign(run, root, silent)
    assert certify_runs(export) == [] and export.ending is not None and export.ending.good
    (told,) = last_certified(run)
    assert told.state == "skipped" and "build it again" in told.why
    events = [json.loads(line) for line in run.events.read_text().splitlines()]
    assert [e["kind"] for e in events if e["kind"] in ("certify", "campaign_ended")][-2:] == [
        "certify",
        "campaign_ended",
    ]
    code, out = finished(command(root, "campaign", "status", str(run.path)))
    said = " ".join(out.split())
    assert code == 0 and "certify on gauss: not scored" in said and "build it again" in said
    best = export.leaderboard[0].snapshot[:12]
    code, out = finished(command(root, "audit", "certify", str(run.path), best))
    assert code == 2 and "build it again" in " ".join(out.split()), "by hand it is refused as well"


def test_the_whole_campaign_certifies_its_best(toy_run: Toy) -> None:
    run, export = toy_run
    best = next(line for line in export.leaderboard if line.rank == 1)
    assert certify_runs(export) == [best.snapshot]
    (told,) = last_certified(run)
    assert told.state == "done" and told.seeds == 4


def test_events_that_are_damaged_are_passed_over(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert last_certified(run) == []
    good = {"at": "x", "kind": "certify", "task": "gauss", "state": "queued", "method": "m"}
    lines = [good, {**good, "state": "odd"}, {"kind": "certify"}, ["certify"]]
    text = "".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "certify", "ta'
    run.events.write_text(text)
    assert [one.state for one in last_certified(run)] == ["queued"]
