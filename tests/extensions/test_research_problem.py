"""A research problem of an installed package: from its rows to a campaign's report."""

import os
import re
from collections.abc import Iterator
from dataclasses import replace
from html import unescape
from pathlib import Path

import numpy as np
import pytest
from extension_kit import EXAMPLES, distribution_of, installed
from gaussian_task import make_task
from hypothesis import given, settings
from hypothesis import strategies as st
from method_world import OPTIONS
from platform_kit import TinyTask, platform, write_task
from seats import operator_seat
from tiny_task import tiny_pair

from aarlab.agents.external import texts
from aarlab.agents.language import prompts
from aarlab.agents.specs import LanguageSpec
from aarlab.campaign.checking import remarks
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import AarSpec, CampaignSpec, VerifySpec, load_spec
from aarlab.core.errors import BaselineMissing, Damaged, NotFound
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.pgr import Outcomes, pgr
from aarlab.core.problem import KEY, WEAK_TO_STRONG
from aarlab.core.wire import CampaignExport, Limits, Predictions, Run, TaskInfo
from aarlab.problems.base import HiddenRows, Problem
from aarlab.problems.known import PROBLEMS
from aarlab.problems.weak_to_strong.scoring import Baselines
from aarlab.report.load import load_export
from aarlab.report.write import write_report
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task
from aarlab.testbed.tasks.generators.assembly import SplitRows
from aarlab.testbed.tasks.generators.registry import TASKS, preset
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.task import load_public
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault

LATENT = EXAMPLES / "latent_knowledge"
FOREIGN = re.compile(r"\bPGR\b|\bweak\b|teacher|ceiling|vanilla|permuted", re.IGNORECASE)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example as pip would install it."""
    place = tmp_path_factory.mktemp("site")
    distribution_of(place, LATENT)
    (place / "aarlab_latent").symlink_to(LATENT / "aarlab_latent")
    return place


@pytest.fixture(scope="module", autouse=True)
def here(site: Path) -> Iterator[None]:
    with installed(site):
        yield


@pytest.fixture(scope="module")
def latent() -> Problem:
    return PROBLEMS.get("latent_knowledge")


@pytest.fixture(scope="module")
def root(latent: Problem, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A Gaussian task of the problem: no rows for a teacher, no weak label, no ceiling."""
    made = DataRoot(tmp_path_factory.mktemp("home"))
    data, source = make_task()
    del data.splits["teacher"]
    data = replace(data, problem=latent.facts)
    build_task(data, OPTIONS, made, Sources(source, source))
    return made


def spec(*more: AarSpec) -> CampaignSpec:
    fixed = {"researcher": "fixed", "seed": 1}
    return CampaignSpec(
        name="latent",
        tasks=["gauss"],
        aars=[
            AarSpec(name="ann", methods=["own_answers"], **fixed),
            AarSpec(name="human", role="human", arm="human", methods=["ask_directly"], **fixed),
            AarSpec(name="guards", role="guard", arm="guard", methods=["guard_majority"], **fixed),
            *more,
        ],
        limits=Limits(submissions=1),
        seeds_per_submission=2,
        verify=VerifySpec(top=1, ablate_top=1, seeds=3),
    )


def rows_of(targets_N: list[bool], baselines=None) -> HiddenRows:
    groups = tuple(f"g{i // 2}" for i in range(len(targets_N)))
    return HiddenRows("t", "search", np.array(targets_N), groups, baselines)


def visible(page: str) -> str:
    """What a reader of a page sees or hears."""
    spoken = " ".join(re.findall(r'(?:aria-label|title|data-figure)="([^"]*)"', page))
    page = re.sub(r"<(style|script)[^>]*>.*?</\1>", " ", page, flags=re.DOTALL)
    return unescape(re.sub(r"<[^>]+>", " ", page) + spoken)


# ---------------------------------------------------------------- the figure
@given(
    probs=st.lists(st.sampled_from([0.1, 0.4, 0.5, 0.9]), min_size=6, max_size=40),
    data=st.data(),
)
@settings(max_examples=60, deadline=None)
def test_the_mean_of_the_parts_is_somers_d(probs: list[float], data) -> None:
    truth = data.draw(st.lists(st.booleans(), min_size=len(probs), max_size=len(probs)))
    truth[:4] = [True, False, True, False]
    found = PROBLEMS.get("latent_knowledge").parts(rows_of(truth), np.array([probs]))
    pairs = [
        np.sign(p - q) for p, t in zip(probs, truth, strict=True) if t
        for q, u in zip(probs, truth, strict=True) if not u
    ]  # fmt: skip
    assert found.shape == (1, len(probs)) and found.mean() == pytest.approx(np.mean(pairs))


def test_the_interval_has_the_variance_of_delong(latent: Problem) -> None:
    """Of independent rows: S10 / n1 + S01 / n0, times 4 for 2 AUROC - 1."""
    rng = np.random.default_rng(0)
    truth_N = np.arange(300) % 3 == 0
    probs_N = 1 / (1 + np.exp(-(rng.normal(size=300) + truth_N)))
    rows = HiddenRows("t", "search", truth_N, tuple(map(str, range(300))), lambda: None)
    above = probs_N[truth_N][:, None] > probs_N[~truth_N][None]
    wanted = above.mean(1).var(ddof=1) / 100 + above.mean(0).var(ddof=1) / 200
    found = latent.estimate(rows, probs_N[None])
    assert found.stderr == pytest.approx(2 * np.sqrt(wanted), rel=0.01)
    assert found.low < found.value < found.high and found.covers == ["rows"]


def test_feedback_moves_by_a_step_that_no_label_sets(latent: Problem) -> None:
    truth = [True, False] * 50
    good, same = np.where(truth, 0.9, 0.1)[None], np.where(truth, 0.8, 0.2)[None]
    bad = np.full((1, 100), 0.5)
    first = latent.feedback(rows_of(truth), bad, None, exact=False)
    assert (first.pgr, first.improved, first.step) == (0.0, True, 0.1)
    assert latent.feedback(rows_of([not t for t in truth]), bad, None, False).step == first.step
    better = latent.feedback(rows_of(truth), good, bad, exact=False)
    assert (better.pgr, better.improved) == (1.0, True)
    again = latent.feedback(rows_of(truth), same, good, exact=False)
    assert (again.pgr, again.improved) == (1.0, False)
    shown = latent.feedback(rows_of(truth), bad, good, exact=False)
    assert (shown.pgr, shown.improved) == (1.0, False), "the best is shown, not what was sent"
    assert latent.feedback(rows_of(truth), bad, good, exact=True).pgr == 0.0


class Leaky(Problem):
    facts = WEAK_TO_STRONG.model_copy(update={"name": "leaky"})
    answer: object = None

    def parts(self, rows: HiddenRows, probs_SN):
        if self.answer is None:
            raise ValueError(f"labels are {rows.targets_N.tolist()}")
        return self.answer


@pytest.mark.parametrize("answer", [None, np.zeros(4), np.full((1, 4), np.nan), "much"])
def test_a_problem_that_fails_is_named_without_a_label(answer: object) -> None:
    leaky = Leaky()
    leaky.answer = answer
    with pytest.raises(Damaged, match="t, search split: the problem leaky") as caught:
        leaky.estimate(rows_of([True, False, True, False]), np.full((1, 4), 0.5))
    assert "True" not in str(caught.value) and caught.value.__cause__ is None
    assert "sealed" in repr(rows_of([True, False]))


def test_parts_of_weak_to_strong_are_those_of_pgr() -> None:
    rng, truth = np.random.default_rng(1), [True, False] * 40
    arms = [rng.random((4, 80)) < share for share in (0.6, 0.9)]
    rows = rows_of(truth, lambda: Baselines(*arms))
    probs_SN = rng.random((3, 80))
    problem = PROBLEMS.get("weak_to_strong")
    correct = (probs_SN > 0.5) == np.array(truth)
    wanted = pgr(Outcomes(correct, *arms, rows.groups_N))
    assert problem.estimate(rows, probs_SN) == wanted
    assert problem.parts(rows, probs_SN).mean() == pytest.approx(wanted.value)


# ---------------------------------------------------------------- the task
def test_a_task_has_no_teacher_and_says_which_problem_it_is_of(
    root: DataRoot, latent: Problem
) -> None:
    info = TaskInfo.model_validate_json((root.public_task("gauss") / "task.json").read_bytes())
    assert info.problem == latent.facts and info.teacher_seeds == []
    assert {"teacher", "weak_layer"}.isdisjoint(info.settings)
    task = load_public(root, "gauss", 0)
    assert task.teacher_labels_SN.shape == (0, 320) and task.weak_labels_N.shape == (0,)
    scorer = Scorer(Vault(root))
    scorer.check("gauss")
    for ask in (scorer.gap, scorer.baselines):
        with pytest.raises(BaselineMissing, match=r"eliciting latent .* has no weak teacher"):
            ask("gauss", "selection")
    truth = Vault(root).truth("gauss", "selection")
    probs = [0.9 if target else 0.1 for target in truth.targets_N]
    perfect = Predictions(list(truth.ids_N), [Run(seed=s, probs=probs) for s in range(2)])
    assert scorer.estimate("gauss", "selection", perfect).value == 1.0
    assert scorer.accuracy_interval("gauss", "selection", perfect).value == 1.0
    assert scorer.best("gauss", "selection", [perfect, perfect]).value == 1.0
    assert scorer.difference("gauss", "selection", perfect, perfect).value == 0.0


def test_facts_that_are_wrong_are_named() -> None:
    info = TaskInfo.model_construct(name="t", settings={KEY: {"name": "x"}})
    with pytest.raises(Damaged, match="task t: its settings name no research problem"):
        _ = info.problem
    assert TaskInfo.model_construct(name="t", settings={}).problem == WEAK_TO_STRONG


def test_the_statements_are_true_and_need_no_teacher() -> None:
    task = TASKS.get("statements")
    settings = replace(task.preset().settings, rows=SplitRows(0, 80, 40, 40, 40))
    data = task.generate("statements", settings)
    assert "teacher" not in data.splits and data.problem.name == "latent_knowledge"
    split = data.splits["search"]
    for row, target in zip(split.examples, split.targets_N, strict=True):
        a, b = map(int, re.findall(r"\d+", row.answers[0]))
        assert (("larger" in row.answers[0]) == (a > b)) == bool(target)


def test_statements_are_built_from_a_models_states_alone(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    place = tmp_path_factory.mktemp("models")
    made, lines = DataRoot(place / "root"), list[str]()
    tiny_pair(made, place / "hf")
    chosen = preset("statements")
    few = replace(chosen.settings, rows=SplitRows(0, 24, 16, 16, 16, 0))
    small = replace(chosen, settings=few, pair="tiny", weak_layer=1, strong_layer=3, more_layers=())
    built = Workshop(made, lines.append, settings=TestbedSettings(device="cpu")).build_preset(small)
    assert built.info.problem.figure == "Somers' D" and built.info.n_train == 24
    assert not any("teacher" in line or "ceiling" in line for line in lines), lines
    again = Workshop(made, lines.append, settings=TestbedSettings(device="cpu")).build_preset(small)
    assert again.from_cache
    Scorer(Vault(made)).check("statements", "certify")


def test_a_missing_package_is_named(root: DataRoot, site: Path) -> None:
    PROBLEMS.refresh()
    said = {r.text for r in remarks(spec(), root, lambda task: True) if r.gravity == "to do"}
    assert not [text for text in said if "research problem" in text]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PROBLEMS, "_installed", {})
        patch.setattr(PROBLEMS, "_loaded", {})
        said = {r.text for r in remarks(spec(), root, lambda task: True) if r.gravity == "to do"}
        assert [text for text in said if "no research problem 'latent_knowledge'" in text]
        with pytest.raises(NotFound, match=r"'aarlab\.problems'"):
            Scorer(Vault(root)).check("gauss")


def test_the_example_campaign_passes_the_check(latent: Problem, tmp_path: Path) -> None:
    example, made = load_spec(LATENT / "campaign.yaml"), DataRoot(tmp_path)
    (task,) = example.tasks
    write_task(made.path, task)
    path = made.public_task(task) / "task.json"
    info = TaskInfo.model_validate_json(path.read_bytes())
    known = {KEY: latent.facts.model_dump(mode="json")}
    path.write_text(info.model_copy(update={"settings": known}).model_dump_json())
    found = [r for r in remarks(example, made, lambda task: False) if r.gravity != "note"]
    assert task == "statements" and found == []


def test_recipes_and_mixed_problems_are_refused(root: DataRoot) -> None:
    search = AarSpec(name="eva", researcher="evolutionary", direction="combining")
    wrong = [r for r in remarks(spec(search), root, lambda task: True) if r.gravity == "error"]
    assert [(r.place, "no weak labels" in r.text) for r in wrong] == [(("aars", 3), True)]
    write_task(root.path, "other")
    mixed = spec().model_copy(update={"held_out": ["other"]})
    wrong = [r for r in remarks(mixed, root, lambda task: True) if r.gravity == "error"]
    assert [r.text for r in wrong] == [
        "tasks of several research problems: gauss (latent_knowledge), other (weak_to_strong)"
    ]


# ---------------------------------------------------------------- words
def test_aars_are_told_of_this_problem_alone(root: DataRoot, latent: Problem) -> None:
    info = TaskInfo.model_validate_json((root.public_task("gauss") / "task.json").read_bytes())
    seen = [prompts.SeenTask(info, "/public")]
    places = prompts.places_of(seen, "/workspace", "/notes")
    told = {
        "prompt": prompts.system_text("a", "", LanguageSpec(model="scripted/x"), seen, places),
        "rules": texts.rules_text("a", "", latent.facts),
        "instructions": texts.instructions(latent.facts),
        "contract": texts.method_contract(latent.facts).text,
        "note": texts.note("README.md", latent.facts).text,
    }
    for name, text in told.items():
        plain = text.replace("`task.weak_labels_N` is\nempty", "")
        assert not FOREIGN.search(plain), (name, FOREIGN.search(plain))
        assert not re.search(r"\{[a-z_]+\}", text), name
        assert "Somers' D" in text, name
    assert "You get statements and a language model" in told["prompt"]
    assert len(told["instructions"].encode()) < 2048


def test_the_prompts_use_every_word_of_a_problem() -> None:
    shipped = [prompts.text_of("system"), texts._own("rules"), texts._own("instructions")]
    for name in prompts.words_of(WEAK_TO_STRONG):
        assert any(f"{{{name}}}" in text for text in shipped), name


@pytest.fixture(scope="module")
def tiny(latent: Problem, tmp_path_factory: pytest.TempPathFactory) -> TinyTask:
    task = write_task(tmp_path_factory.mktemp("tiny"))
    path = task.data.public_task(task.name) / "task.json"
    info = TaskInfo.model_validate_json(path.read_bytes())
    settings = {KEY: latent.facts.model_dump(mode="json")}
    path.write_text(
        info.model_copy(update={"settings": settings, "teacher_seeds": []}).model_dump_json()
    )
    (task.data.vault_task(task.name) / "baselines.npz").unlink()
    return task


def test_the_pages_name_its_figure_and_hide_what_it_has_not(tiny: TinyTask, tmp_path: Path) -> None:
    with platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny") as running:
        with running.aar("ann") as ann:
            score = ann.submit(running.submission(0.9), key="a")
            assert score.pgr > 0.5 and score.improved
        with operator_seat(running) as dashboard:
            for path in ("/", "/leaderboard", "/tasks", "/aars/ann"):
                shown = visible(dashboard.get(path).text)
                assert not FOREIGN.search(shown), (path, FOREIGN.search(shown))
            assert "Somers' D on tiny, search split" in visible(dashboard.get("/").text)
            assert "0 for chance and 1 for a perfect order" in dashboard.get("/leaderboard").text


# ---------------------------------------------------------------- a whole campaign
@pytest.fixture(scope="module")
def ran(
    site: Path, root: DataRoot, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, CampaignExport]:
    run = RunDir(tmp_path_factory.mktemp("runs") / "latent")
    with pytest.MonkeyPatch.context() as patch:  # for the server and the verifier
        known = os.environ.get("PYTHONPATH")
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(site), known])))
        create(run, spec(), {"why": "test"}, root)
        run_campaign(run, root, lambda kind, facts: None)
    return run, load_export(run.export)


@pytest.mark.gate
def test_a_campaign_verifies_by_the_problem(
    ran: tuple[RunDir, CampaignExport],
) -> None:
    _, export = ran
    assert [s.method for s in export.submissions] and len(export.submissions) == 3
    runs = {(v.method, v.split): v for v in export.verifications}
    assert set(runs) == {
        ("own_answers", "selection"), ("ask_directly", "selection"),
        ("guard_majority", "selection"),
    }  # fmt: skip
    assert all(v.state == "done" and v.isolation == "bubblewrap" for v in runs.values())
    assert runs["own_answers", "selection"].delivery == "blind"
    assert runs["own_answers", "selection"].train_rows == "hidden"
    best = runs["own_answers", "selection"].estimate
    assert best.n_seeds == 3 and 0.3 < best.low < best.value < 1
    assert runs["guard_majority", "selection"].estimate.value == 0.0
    # Code of its own that asks for log-likelihoods waits for a verdict, in any research problem.
    assert runs["own_answers", "selection"].asked == "log-likelihoods"
    assert not [e for e in export.leaderboard if e.rank] and export.baselines == []
    kinds = {audit.kind for audit in export.audits}
    assert kinds == {"rerun", "shortcut", "static", "fingerprint", "copy", "forensics"}
    assert [a for a in export.audits if a.severity == "suspect"] == []


@pytest.mark.gate
def test_the_report_says_nothing_of_another_problem(
    ran: tuple[RunDir, CampaignExport], tmp_path: Path
) -> None:
    """Also where the problem's package is not installed any more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PROBLEMS, "_installed", {})
        files = write_report(ran[1], tmp_path)
    page = re.sub(r"<pre.*?</pre>", " ", files.page.read_text(encoding="utf-8"), flags=re.DOTALL)
    markdown = (tmp_path / "report.md").read_text(encoding="utf-8")
    for text in (visible(page), re.sub(r"!\[.*", "", markdown)):
        assert not FOREIGN.search(text), FOREIGN.search(text)
    assert "Best Somers' D" in visible(page) and "clearly above" in visible(page)
    assert '"figure": "Somers\' D"' in files.summary.read_text(encoding="utf-8")
