"""The example package adds an extension of each kind; wrong packages are named."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from extension_kit import EXAMPLES, Entries, distribution, examples, installed
from platform_kit import platform, write_task
from seats import facts, operator_seat
from tiny_task import tiny_pair

from aarlab.agents.config import AarConfig
from aarlab.agents.state import Trial
from aarlab.agents.trial import TrialRunner
from aarlab.campaign.registration import run_settings
from aarlab.campaign.spec import unpacked, with_own_methods
from aarlab.core.errors import AarlabError, BadInput, Conflict, Damaged, NotFound
from aarlab.core.layout import ADAPTATION_NAMES, DataRoot, RunDir, build_command, embedded_names
from aarlab.core.registry import GROUPS, Registry
from aarlab.core.verdicts import flags_of
from aarlab.executors.known import EXECUTORS
from aarlab.problems.known import PROBLEMS
from aarlab.report.tables import audits as audit_table
from aarlab.report.tracking import EXPORTERS
from aarlab.report.view import campaign_view
from aarlab.testbed.methods import REGISTRY
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.low_rank import LowRank
from aarlab.testbed.settings import TestbedSettings
from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS
from aarlab.testbed.students.adapters.tuning import fresh_blocks
from aarlab.testbed.students.options import AdapterOptions
from aarlab.testbed.tasks.build import Built
from aarlab.testbed.tasks.data import TaskData
from aarlab.testbed.tasks.generators.assembly import SplitRows
from aarlab.testbed.tasks.generators.registry import TASKS, preset
from aarlab.testbed.tasks.making import Workshop
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.settings_file import task_settings
from aarlab.verify import __main__ as verifier
from aarlab.verify.auditing import audit
from aarlab.verify.audits import AUDITS, check_installed

CPU = TestbedSettings(device="cpu")
SMALL = SplitRows(teacher=24, train=32, search=24, selection=24, certify=12, train_hidden=0)


class FewSeeds(Workshop):
    """A random model learns nothing of numbers: no gap is asked for, and two seeds are enough."""

    def build(self, data: TaskData, options: BuildOptions) -> Built:
        few = dict.fromkeys(("n_public", "n_fresh", "ceiling_seeds", "plain_seeds"), 2)
        return super().build(
            data, options.model_copy(update={**few, "n_weak": 4, "require_gap": False})
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return examples(tmp_path_factory.mktemp("site"))


@pytest.fixture
def here(site: Path) -> Iterator[None]:
    with installed(site):
        yield


@pytest.fixture(scope="module")
def root(site: Path, tmp_path_factory: pytest.TempPathFactory) -> DataRoot:
    """A data root with `parity-mlp-only`: the example's task for the example's adaptation."""
    place = tmp_path_factory.mktemp("home")
    made = DataRoot(place / "root")
    tiny_pair(made, place / "hf")
    with installed(site):
        parity = preset("parity", seed=7)
        small = replace(
            parity, settings=replace(parity.settings, rows=SMALL), pair="tiny", weak_layer=1,
            strong_layer=3, more_layers=(),
        )  # fmt: skip
        adapter, training = ADAPTATIONS.get("mlp_only").defaults()
        adapted = (adapter, training.model_copy(update={"epochs": 1}))
        shop = FewSeeds(made, lambda line: None, settings=CPU)
        built = shop.build_preset(small, certify=False, adapted=adapted, zero_shot=False)
    assert built.info.name == "parity-mlp-only-states"
    assert built.info.settings["student"]["adapter"]["kind"] == "mlp_only"
    return made


def command(site: Path, home: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The real command, in a process that sees the installed package."""
    variables = {**os.environ, "PYTHONPATH": str(site), "AARLAB_HOME": str(home)}
    return subprocess.run(
        [sys.executable, "-m", "aarlab.cli", *words],
        env=variables, capture_output=True, encoding="utf-8", timeout=200,
    )  # fmt: skip


# ---------------------------------------------------------------- the examples
def test_the_task_is_listed_and_has_rows_of_its_own(site: Path, here: None, tmp_path: Path) -> None:
    shown = command(site, tmp_path, "task", "list", "--json")
    assert shown.returncode == 0, shown.stderr
    states = {row["task"]: row["state"] for row in json.loads(shown.stdout)}
    assert states["parity"] == "aarlab task build parity" and "math" in states
    assert build_command("parity-mlp-only") == "aarlab task build parity --adaptation mlp_only"
    task = TASKS.get("parity")
    data = task.generate("parity", replace(task.preset().settings, rows=SMALL))
    assert (len(data.splits["train"].examples), len(data.twins.rows)) == (32, 24)
    assert data.settings["generator"] == "parity"
    search = data.splits["search"]
    for example, target in zip(search.examples, search.targets_N, strict=True):
        number = int(example.prompt.split()[1])
        assert (("odd" if number % 2 else "even") in example.answers[0]) == bool(target)
    with pytest.raises(BadInput, match="ParitySettings"):
        task.generate("parity", preset("math").settings)


@pytest.mark.gate
def test_the_method_runs_by_its_name(site: Path, root: DataRoot) -> None:
    """On the example's task, whose students are trained by the example's adaptation."""
    words = ["--task", "parity-mlp-only-states", "--seeds", "1", "--no-permuted"]
    done = command(site, root.path, "method", "run", "median_split", *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "median_split" in done.stdout
    listed = command(site, root.path, "method", "list", "--json").stdout
    (row,) = [row for row in json.loads(listed) if row["family"] == "installed packages"]
    assert row["method"] == "median_split" and "aarlab-examples" in row["doc"]


def test_a_campaign_copies_the_method_and_imports_nothing_of_its_package(tmp_path: Path) -> None:
    package, mark = tmp_path / "loud", tmp_path / "it-ran"
    (package / "shout").mkdir(parents=True)
    source = f"open({str(mark)!r}, 'w').close()\ndef fit(task, student, seed): ...\n"
    for file in ("__init__.py", "shout/__init__.py", "shout/method.py"):
        (package / file).write_text(source)
    distribution(tmp_path, "loud", {"aarlab.methods": {"shout": "loud.shout"}})
    files = {name: source.encode() for name in ("method.py", "__init__.py")}
    config = AarConfig.model_construct(own={}, tasks={}, task="t")
    trial = Trial.model_construct(method="shout", recipe=None, origin="", parent=None)
    with installed(tmp_path):
        raw = with_own_methods({"methods": ["shout"]}, tmp_path)
        assert unpacked("m", raw["methods"]["shout"]).files == files
        assert TrialRunner(config, sys.executable).method_files(trial) == files
        assert run_settings(DataRoot(tmp_path))["extensions"] == [
            "loud 1.0, [aarlab.methods] shout = loud.shout"
        ]
        assert not mark.exists()
        REGISTRY.get("shout")
        assert mark.exists(), "the mark shows what runs"


FLAT = """
from aarlab.testbed.students.adapters.adaptation import Adaptation
FLAT = Adaptation("flat", "", lambda matrix, options, random: matrix.weight_OI[0], lambda: ())
"""


def test_the_adaptation_trains_what_it_says(here: None, root: DataRoot, tmp_path: Path) -> None:
    (tmp_path / "flat.py").write_text(FLAT)
    distribution(tmp_path, "rude", {"aarlab.adaptations": {"flat": "flat:FLAT"}})
    model = LanguageModel.load(next((root.path / "models").glob("tiny*")), 1)
    blocks = fresh_blocks(model.decoder, (0, 3), AdapterOptions(kind="mlp_only", rank=2), 0)
    for block, before in zip(blocks, model.decoder.blocks, strict=True):
        assert block.qkv is before.qkv and block.out is before.out
        assert isinstance(block.gate_up, LowRank) and isinstance(block.down, LowRank)
    with (
        installed(tmp_path),
        pytest.raises(BadInput, match=r"adaptation flat: `trainable` must return .* of qkv"),
    ):
        fresh_blocks(model.decoder, (0, 3), AdapterOptions(kind="flat"), 0)


@pytest.mark.parametrize("name", [*ADAPTATION_NAMES, "mlp_only"])
def test_task_yaml_reaches_every_adaptation(here: None, name: str) -> None:
    settings = task_settings({"student": {"adaptation": name}}, "task.yaml")
    options = settings.build_options((1, 3, ()), None, 2, 0)
    assert options.adapter is not None and options.adapter.kind == name
    assert options.adapter.lowest(9) == (6 if name == "top_blocks" else 0)
    assert options.student.hidden == 0


def test_the_audit_is_in_log_export_and_report(here: None, tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    with platform(write_task(tmp_path / "root"), run, "--task", "tiny") as running:
        with running.aar("ann") as ann, running.aar("bob") as bob:
            ann.submit(running.submission(0.7), key="a")
            for seed in range(2):
                bob.submit(running.submission(0.7, seed), key=f"b{seed}")
        with running.operator() as operator:
            audit(operator, None, final=False)
            assert "single" not in {found.kind for found in operator.export().audits}
            assert audit(operator, None) == 4 and audit(operator, None) == 0
            export = operator.export()
        with operator_seat(running) as dashboard:
            assert (
                "<b>single</b> on tiny: one submission" in dashboard.get("/audits?state=all").text
            )
            logged = [entry["body"] for entry in facts(dashboard, "/log?kind=audit")["entries"]]
    assert [one["kind"] for one in logged].count("single") == 2
    found = {one.aar: one for one in export.audits if one.kind == "single"}
    assert (found["ann"].severity, found["ann"].summary) == ("note", "one submission on tiny")
    assert found["bob"].severity == "clear"
    assert flags_of(export.audits, ()) == set(), "AARs learn nothing of it"
    rows = audit_table(campaign_view(export)).rows
    assert [row.cells[0].small for row in rows] == ["single"]


def test_audit_kinds_lists_built_in_and_installed_ones(site: Path, tmp_path: Path) -> None:
    shown = command(site, tmp_path, "audit", "kinds", "--json")
    assert shown.returncode == 0, shown.stderr
    rows = {row["audit"]: row for row in json.loads(shown.stdout)}
    assert rows["single"]["package"] == "aarlab-examples 1.0"
    assert rows["single"]["reads"] == rows["forensics"]["reads"] == "submissions"
    page = (EXAMPLES.parents[1] / "docs" / "audits.md").read_text(encoding="utf-8")
    for name, row in rows.items():
        if row["package"] == "aarlab":
            assert f"| {name} | {row['question']} | {row['suspect']} |" in page


# ---------------------------------------------------------------- wrong packages
WRONG: dict[str, tuple[Entries, type[AarlabError], str]] = {
    "taken": ({"aarlab.methods": {"vanilla": "p.vanilla"}}, Conflict, "built-in method 'vanilla'"),
    "rows": ({"aarlab.tasks": {"oversight": "p:TASK"}}, Conflict, "'oversight'"),
    "probe": ({"aarlab.adaptations": {"probe": "p:X"}}, Conflict, "built-in adaptation 'probe'"),
    "audit": ({"aarlab.audits": {"static": "p:X"}}, Conflict, "built-in audit 'static'"),
    "mlflow": ({"aarlab.exporters": {"mlflow": "p:X"}}, Conflict, "built-in exporter 'mlflow'"),
    "local": ({"aarlab.executors": {"local": "p:X"}}, Conflict, "built-in executor 'local'"),
    "weak": ({"aarlab.problems": {"weak_to_strong": "p:X"}}, Conflict, "research problem 'weak_"),
    "name": ({"aarlab.audits": {"My Audit": "p:X"}}, BadInput, "1 to 40 of a-z"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_name_that_is_taken_or_odd_is_refused(case: str, tmp_path: Path) -> None:
    entries, error, said = WRONG[case]
    distribution(tmp_path, "rude", entries)
    ((group, some),) = entries.items()
    known = (TASKS, REGISTRY, AUDITS, ADAPTATIONS, EXECUTORS, EXPORTERS, PROBLEMS)
    registries = {one.group: one for one in known}
    assert {*registries, "aarlab.tools"} == set(GROUPS), "tools: test_extra_tools.py"
    with installed(tmp_path), pytest.raises(error) as found:
        registries[group].names()
    ((name, value),) = some.items()
    assert f"rude 1.0, [{group}] {name} = {value}" in str(found.value) and said in str(found.value)


def test_two_packages_with_one_name_are_both_named(tmp_path: Path) -> None:
    for package in ("one", "two"):
        distribution(tmp_path, package, {"aarlab.tasks": {"poems": f"{package}:TASK"}})
    with (
        installed(tmp_path),
        pytest.raises(Conflict, match=r"one 1.0, \[aarlab.tasks\].*two 1.0, "),
    ):
        embedded_names()


BROKEN = {
    "missing": ("no_such_module:X", "ModuleNotFoundError: No module named 'no_such_module'"),
    "lacking": ("wares:NOTHING", "AttributeError"),
    "raising": ("faulty:X", "ZeroDivisionError"),
    "odd": ("wares:NUMBER", "must be a BatteryAudit, and is a int"),
    "renamed": ("wares:AUDIT", "calls itself 'other'"),
    "code": ("wares:CODE", "reads AuditedRun or AuditedSubmissions"),
}
WARES = """
from aarlab.verify.audits import AuditedCode, AuditedSubmissions, BatteryAudit
NUMBER = 3
AUDIT = BatteryAudit("other", AuditedSubmissions, "?", "!", lambda audited: None)
CODE = BatteryAudit("code", AuditedCode, "?", "!", lambda audited: None)
"""


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_entry_names_distribution_group_and_entry(name: str, tmp_path: Path) -> None:
    value, said = BROKEN[name]
    (tmp_path / "wares.py").write_text(WARES)
    (tmp_path / "faulty.py").write_text("1 / 0\n")
    distribution(tmp_path, "rude", {"aarlab.audits": {name: value}})
    with installed(tmp_path):
        assert AUDITS.names()[-1] == name, "its name is known without its code"
        with pytest.raises(Damaged) as found:
            check_installed()
    assert f"rude 1.0, [aarlab.audits] {name} = {value}" in str(found.value)
    assert said in str(found.value)


def test_nothing_starts_with_a_broken_audit(tmp_path: Path, caplog) -> None:
    site, run = tmp_path / "site", tmp_path / "run"
    distribution(site, "rude", {"aarlab.audits": {"absent": "no_such_module:X"}})
    for words in (["campaign", "run", "demo", "--out", str(run)], ["demo", "--out", str(run)]):
        refused = command(site, tmp_path / "home", *words)
        assert refused.returncode == 2, refused.stderr
        assert "rude 1.0, [aarlab.audits] absent" in " ".join(refused.stderr.split())
        assert not run.exists()
    with installed(site):
        assert verifier.main(["--run", str(run), "--root", str(tmp_path)]) == 1
    assert "[aarlab.audits] absent = no_such_module:X" in caplog.text


@pytest.mark.parametrize("value", ["nowhere.poem", "wares.poem", "wares"])
def test_a_method_without_its_folder_is_named(value: str, tmp_path: Path) -> None:
    (tmp_path / "wares").mkdir()
    distribution(tmp_path, "rude", {"aarlab.methods": {"poem": value}})
    with installed(tmp_path), pytest.raises(Damaged, match=r"rude 1.0, .*no folder .* method.py"):
        REGISTRY.get("poem")


FAILING = """
from aarlab.core.wire import NewAudit
from aarlab.verify.audits import AuditedSubmissions, BatteryAudit

def grave(audited):
    return NewAudit(kind="grave", aar="ann", severity="suspect", summary="x")

def other(audited):
    return NewAudit(kind="static", aar="ann", severity="clear", summary="x")

FAILS = BatteryAudit("fails", AuditedSubmissions, "?", "!", lambda audited: 1 / 0)
GRAVE = BatteryAudit("grave", AuditedSubmissions, "?", "!", grave, gravest="note")
OTHER = BatteryAudit("other", AuditedSubmissions, "?", "!", other)
"""


def test_a_failing_audit_is_named_and_loses_no_other_finding(site: Path, tmp_path: Path) -> None:
    (tmp_path / "failing.py").write_text(FAILING)
    entries = {name: f"failing:{name.upper()}" for name in ("fails", "grave", "other")}
    distribution(tmp_path, "rude", {"aarlab.audits": entries})
    task, run = write_task(tmp_path / "root"), RunDir(tmp_path / "run")
    with installed(tmp_path), installed(site), platform(task, run, "--task", "tiny") as running:
        with running.aar("ann") as ann:
            ann.submit(running.submission(0.7), key="a")
        with running.operator() as operator:
            with pytest.raises(Damaged) as found:
                audit(operator, None)
            kinds = {one.kind for one in operator.export().audits}
    assert kinds == {"forensics", "single"}
    assert "rude 1.0, [aarlab.audits] fails" in str(found.value) and "ZeroDivision" in str(
        found.value
    )
    assert "found suspect, and says note at most" in str(found.value)
    assert "a NewAudit of kind 'other'" in str(found.value)


def test_an_unknown_name_says_which_there_are_and_the_group() -> None:
    with pytest.raises(NotFound, match=r"no adaptation 'lor'.*blocks, lora, full.*aarlab.adapt"):
        ADAPTATIONS.get("lor")
    with pytest.raises(BadInput, match="no adaptation 'lor'"):
        AdapterOptions(kind="lor")
    with pytest.raises(NotFound, match=r"aarlab method list\).*'aarlab.methods'"):
        REGISTRY.get("vanila")


def test_a_registry_imports_nothing_before_it_is_asked(tmp_path: Path) -> None:
    (tmp_path / "loud.py").write_text("MADE = []\nX = 'wares'\n")
    distribution(tmp_path, "loud", {"aarlab.poems": {"ode": "loud:X"}})
    poems = Registry("poem", "aarlab.poems", str, {"sonnet": "fourteen"})
    lazy: Registry[list[int]] = Registry("poem", "aarlab.poems", list, {"sonnet": "loud:MADE"})
    with installed(tmp_path):
        assert poems.names() == ["sonnet", "ode"] and "ode" in poems and "epic" not in poems
        assert "loud" not in sys.modules
        assert poems.get("ode") == "wares" and "loud" in sys.modules
        assert lazy.get("sonnet") is lazy.get("sonnet")
