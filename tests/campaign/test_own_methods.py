"""`methods: [folder]` in a spec: frozen at loading, checked, and run like a hand-tuned baseline."""

import json
from pathlib import Path

import pytest
import yaml
from gaussian_task import BLIND, make_task
from method_world import OPTIONS
from toy_campaign import build_toy
from typer.testing import CliRunner

from aarlab.agents.control import researcher_of
from aarlab.agents.state import AarState
from aarlab.agents.trial import TrialRunner
from aarlab.campaign.checking import remarks
from aarlab.campaign.registration import Campaign, _config
from aarlab.campaign.runner import create, open_spec, run_campaign
from aarlab.campaign.spec import load_spec, unpacked
from aarlab.campaign.watch import EventLog
from aarlab.cli.campaign import app
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.layout import DataRoot, RunDir
from aarlab.report.write import write_report
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.students.baselines import Sources
from aarlab.testbed.tasks.build import build_task

SOURCE = """import helper
from aarlab.testbed.methods import METHODS
def fit(task, student, seed):
    assert helper.V == {value}
    return METHODS['vanilla'].fit(task, student, seed)
"""


def write(place: Path, *folders: str, **changes: object) -> Path:
    """A spec next to method folders `a`, `b` ... with a helper of their own each."""
    for value, name in enumerate(folders):
        files = {"method.py": SOURCE.format(value=value), "helper.py": f"V = {value}\n"}
        write_method(place / "mine" / name, files)
    spec = {
        "name": "own-ones",
        "tasks": ["gauss"],
        "methods": [f"mine/{name}" for name in folders],
        "aars": [
            {"name": "guards", "researcher": "fixed", "role": "guard", "arm": "guard",
             "methods": ["guard_length"]},
        ],
        "seeds_per_submission": 2,
        "verify": {"top": 1, "ablate_top": 0, "seeds": 2},
        **changes,
    }  # fmt: skip
    path = place / "spec.yaml"
    path.write_text(yaml.safe_dump(spec))
    return path


def test_folders_are_frozen_when_the_spec_is_read(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, "alpha", "beta"))
    run = RunDir(tmp_path / "run")
    create(run, spec, {})
    (tmp_path / "mine" / "alpha" / "helper.py").write_text("V = 99\n")
    kept = open_spec(run)
    assert kept == spec and set(kept.methods) == {"alpha", "beta"}
    assert unpacked("alpha", kept.methods["alpha"]).files["helper.py"] == b"V = 0\n"
    own = next(aar for aar in kept.aars if aar.name == "own")
    assert (own.researcher, own.role, own.own) == ("fixed", "human", ["alpha", "beta"])
    assert kept.limits_of(own).submissions == 2 and kept.expanded() == kept


def test_the_researcher_hands_in_the_frozen_files(tmp_path: Path) -> None:
    spec = load_spec(write(tmp_path, "alpha", "beta"))
    run = RunDir(tmp_path / "run")
    create(run, spec, {})
    made = Campaign(run, DataRoot(tmp_path), spec, EventLog(run.events, lambda *_: None))
    index = [aar.name for aar in spec.aars].index("own")
    config = _config(made, index, spec.aars[index])
    state, runner = AarState(), TrialRunner(config, "python")
    names = []
    while (trial := researcher_of(config).propose(state, None)) is not None:
        snapshot = runner.snapshot_of(trial)
        names.append(snapshot.name)
        assert {file.path for file in snapshot.files} == {"method.py", "helper.py"}
        done = trial.model_copy(update={"outcome": "failed"})
        state = state.proposed(trial).updated(done)
    assert names == ["alpha", "beta"]


BROKEN = {
    "no method.py": ({"x.py": ""}, "alpha: there is no method.py"),
    "syntax": ({"method.py": "\ndef fit(:\n"}, "alpha/method.py:2: SyntaxError"),
    "no fit": ({"method.py": "x = 1\n"}, "alpha/method.py: defines no function fit"),
    "signature": ({"method.py": "def fit(a, b):\n    pass\n"}, "alpha/method.py:1: define fit"),
    "size": ({"method.py": SOURCE, "w": "x" * 1_000_001}, "at most 1,0"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_folder_is_named_with_its_line(tmp_path: Path, kind: str) -> None:
    files, says = BROKEN[kind]
    path = write(tmp_path, "alpha")
    for file in (tmp_path / "mine" / "alpha").iterdir():
        file.unlink()
    write_method(tmp_path / "mine" / "alpha", files)
    with pytest.raises(BadInput, match=says):
        load_spec(path)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"methods": ["mine/alpha", "mine/alpha"]}, "two method folders are called alpha"),
        ({"methods": ["absent"]}, "no method folder"),
        ({"methods": "mine/alpha"}, "methods"),
        ({"methods": [3]}, "methods"),
        ({"methods": ["mine/alpha"] * 21}, "at most 20"),
        ({"methods": {"x": {"../method.py": ""}}}, "relative path inside"),
        ({"methods": {"x": {"method.py": "no base64"}}}, "not base64"),
        ({"methods": {"x": {"method.py": "", "w": "AAAA" * 400_000}}}, "at most 1,0"),
        ({"aars": [{"name": "own", "researcher": "random"}]}, "the name `own` is kept"),
        ({"aars": [{"name": "x", "researcher": "fixed", "own": ["alpha"]}]}, "listed in `methods`"),
    ],
)
def test_what_is_no_list_of_folders_is_refused(tmp_path: Path, changes, says: str) -> None:
    with pytest.raises(AarlabError, match=says):
        load_spec(write(tmp_path, "alpha", **changes))


def test_the_check_runs_the_contract(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    path = write(tmp_path, "alpha")
    bad = "def fit(task, student, seed):\n    raise KeyError('no luck')\n"
    write_method(tmp_path / "mine" / "alpha", {"method.py": bad})
    found = CliRunner().invoke(app, ["check", str(path)], standalone_mode=False)
    assert found.return_value == 2
    assert "method alpha" in found.output and "method.py:2 in fit" in found.output


def test_a_task_without_a_clear_gap_is_refused_with_the_reason(tmp_path: Path) -> None:
    data, source = make_task()
    options = OPTIONS.model_copy(update={"strong_layer": BLIND, "require_gap": False})
    root = DataRoot(tmp_path / "home")
    build_task(data, options, root, Sources(source, source))
    task = json.loads((root.public_task("gauss") / "task.json").read_text())
    assert task["settings"]["gap"] == "not clear" and "0." not in str(task["settings"]["gap"])
    record = json.loads((root.vault_task("gauss") / "build.json").read_text())
    assert record["gap"]["search"].startswith("gap: not clear (ceiling 0.")
    spec = load_spec(write(tmp_path, "alpha"))
    errors = [r.text for r in remarks(spec, root, lambda name: False) if r.gravity == "error"]
    assert any("gap: not clear" in text and "aarlab method verify" in text for text in errors)


@pytest.mark.slow
def test_own_methods_are_verified_and_shown_under_their_names(tmp_path: Path) -> None:
    root = build_toy(tmp_path / "home")
    run = RunDir(tmp_path / "run")
    create(run, load_spec(write(tmp_path, "alpha", "beta")), {})
    for file in (tmp_path / "mine").rglob("*.py"):
        file.write_text("raise RuntimeError('edited later')\n")
    export = run_campaign(run, root, lambda *_: None)
    verified = {v.method: v for v in export.verifications if v.aar == "own"}
    assert set(verified) == {"alpha", "beta"}
    assert all(v.state == "done" and v.estimate is not None for v in verified.values())
    assert {aar.name: aar.researcher for aar in export.aars}["own"] == "human"
    write_report(export, tmp_path / "report")
    page = (tmp_path / "report" / "index.html").read_text()
    assert "alpha" in page and "beta" in page
