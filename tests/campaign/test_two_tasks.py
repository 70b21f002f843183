"""A campaign on two development tasks: every AAR works on both, under `kill -9` too."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import yaml
from toy_campaign import SECOND, add_second_task, build_toy, command, finished, processes_of

from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import load_state
from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport, Limits
from aarlab.report.load import load_export
from aarlab.report.view import campaign_view
from aarlab.report.write import write_report
from aarlab.store.log import verify_log

pytestmark = pytest.mark.gate

TASKS = ["gauss", SECOND]
Ended = tuple[RunDir, CampaignExport]
CONTROLS = ("rowan", "edda")
TRIALS = 5


def two_tasks() -> CampaignSpec:
    return CampaignSpec(
        name="two",
        tasks=TASKS,
        aars=[
            AarSpec(name="rowan", researcher="random", direction="elicitation", seed=3),
            AarSpec(name="edda", researcher="evolutionary", direction="combining", seed=4),
            AarSpec(
                name="ada",
                researcher="language",
                direction="elicitation",
                limits=Limits(submissions=2, hours=1.0),
                language=LanguageSpec(model="scripted/elicitor", model_args={"rounds": 2}),
            ),
            AarSpec(
                name="human", researcher="fixed", role="human", arm="human", methods=["vanilla"]
            ),
            AarSpec(
                name="guards", researcher="fixed", role="guard", arm="guard",
                methods=["guard_length"],
            ),
        ],
        limits=Limits(submissions=TRIALS),
        seeds_per_submission=2,
        verify=VerifySpec(top=2, ablate_top=0, seeds=4),
    )  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    made = build_toy(tmp_path_factory.mktemp("two"))
    add_second_task(made)
    return made


@pytest.fixture(scope="module")
def ended(root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Ended:
    """Killed three times on its way to the end, and resumed."""
    home = tmp_path_factory.mktemp("run")
    run, rng = RunDir(home / "two"), random.Random(7)
    spec = home / "two.yaml"
    spec.write_text(yaml.safe_dump(two_tasks().model_dump(mode="json")))
    words = ("campaign", "run", str(spec), "--out", str(run.path))
    process, kills = command(root, *words, seeded=True), 0
    while kills < 3:
        known = (load_state(run.aar(name) / "state.json") for name in CONTROLS)
        if not any(len(state.trials) > kills for state in known):
            time.sleep(0.05)
            assert process.poll() is None, finished(process)
            continue
        time.sleep(rng.uniform(0.0, 1.0))
        os.kill(process.pid, signal.SIGKILL)
        process.communicate()
        end = time.monotonic() + 15
        while processes_of(run.path) and time.monotonic() < end:
            time.sleep(0.1)
        process, kills = command(root, "campaign", "resume", str(run.path), seeded=True), kills + 1
    code, out = finished(process)
    assert code == 0, out
    return run, load_export(run.export)


def by_task(export: CampaignExport, aar: str) -> dict[str, list[str | None]]:
    found: dict[str, list[str | None]] = {task: [] for task in TASKS}
    for sent in export.submissions:
        if sent.aar == aar:
            found[sent.task].append(sent.snapshot)
    return found


def test_control_researchers_try_each_method_on_every_task(ended: Ended) -> None:
    run, export = ended
    for aar in CONTROLS:
        first, second = by_task(export, aar).values()
        assert (len(first), len(second)) == (3, 2), "the budget of five ends within a method"
        assert first[:2] == second and len(set(first)) == 3
        trials = load_state(run.aar(aar) / "state.json").done
        assert [t.task for t in trials] == [*TASKS, *TASKS, TASKS[0]]
        assert [t.score.submission for t in trials if t.score] == [
            s.id for s in export.submissions if s.aar == aar
        ]
    for aar in ("human", "guards"):
        assert by_task(export, aar)["gauss"] == by_task(export, aar)[SECOND] != []


def test_a_language_aar_is_told_of_both_and_works_on_both(ended: Ended) -> None:
    run, export = ended
    sent = by_task(export, "ada")
    assert [len(of) for of in sent.values()] == [1, 1]
    said = run.transcript("ada").read_text()
    for task in TASKS:
        assert f"- `{task}` in /public/{task}: " in said
        assert f"--public /public/{task} " in said and f" on {task}: a new best" in said
    assert "Other tasks are in /public/gauss-two" in said, "the notes that it read"


def test_findings_say_on_which_task_a_cited_score_was_reached(ended: Ended) -> None:
    _, export = ended
    of = {s.id: s.task for s in export.submissions}
    cited = [f for f in export.findings if f.submission]
    assert Counter(f.task for f in cited) == Counter(of[f.submission] for f in cited)
    assert {f.task for f in cited} == set(TASKS)


def test_methods_are_verified_on_both_and_nothing_is_doubled(ended: Ended) -> None:
    run, export = ended
    runs = [(v.snapshot, v.task, v.split) for v in export.verifications]
    assert sorted(task for _, task, split in runs if split == "certify") == sorted(TASKS)
    assert len(set(runs)) == len(runs) and {v.state for v in export.verifications} == {"done"}
    assert {
        snapshot for snapshot, task, split in runs if (task, split) == ("gauss", "selection")
    } == {snapshot for snapshot, task, split in runs if (task, split) == (SECOND, "selection")}
    audited = {(a.aar, a.task) for a in export.audits if a.kind == "forensics"}
    assert {(aar, task) for aar in (*CONTROLS, "ada") for task in TASKS} <= audited
    verify_log(run.database)


def test_the_report_is_of_the_task_that_was_asked_for(ended: Ended, tmp_path: Path) -> None:
    _, export = ended
    first, second = campaign_view(export), campaign_view(export, SECOND)
    assert first.task is not None and (first.task.name, len(first.submissions)) == ("gauss", 7)
    assert second.task is not None and (second.task.name, len(second.submissions)) == (SECOND, 5)
    assert {m.search.value for m in first.methods if m.search} != {
        m.search.value for m in second.methods if m.search
    }
    page = write_report(export, tmp_path, SECOND).page.read_text()
    assert f"Task {SECOND}" in page and "The campaign also ran on gauss" in page
