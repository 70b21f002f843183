"""The published setting from its file to its end, with tiny models and scripted researchers."""

import json
from pathlib import Path

import numpy as np
import pytest
import yaml
from tiny_models import save_tiny
from tiny_task import word_rows
from toy_campaign import command, finished
from typer.testing import CliRunner

from aarlab.campaign.runner import open_spec
from aarlab.cli.main import cli
from aarlab.core.layout import DataRoot, RunDir
from aarlab.report.load import load_export

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
EXAMPLE = Path(__file__).parents[2] / "examples" / "published_setting.yaml"
FILES = (
    ("train_label", "teacher", 60, 0.5),
    ("train_unlabel", "train", 96, 0.0),
    ("test", "test", 200, 0.0),
)
SMALL = {
    "limits": {"hours": 1, "submissions": 2, "methods": 1},
    "campaign_limits": {"hours": 10, "dollars": 10},
    "language": {"model": "scripted/reweighter", "model_args": {"rounds": 2}},
    "prices": {"scripted/reweighter": {"dated": "invented", "input": 1.0, "output": 1.0}},
    "seeds_per_submission": 1,
    "student_server": {"device": "cpu", "devices": 2},
    "verify": {
        "top": 1,
        "live": False,
        "ablate_top": 0,
        "held_out_top": 0,
        "certify": False,
        "seeds": 2,
    },
    "alerts": {"free_disk_gb": 0},
}


def write_folder(folder: Path, name: str) -> None:
    """Rows in the study's format; the teacher's own labels are often wrong."""
    (folder / name).mkdir(parents=True)
    for stem, n, noise in (
        ("train_label", 60, 0.5),
        ("train_unlabel", 96, 0.0),
        ("test", 120, 0.0),
    ):
        examples, targets = word_rows(n, {"train_label": "teacher"}.get(stem, stem))
        wrong = np.random.default_rng(1).random(n) < noise
        rows = [
            {"question": f"{name} {e.prompt}", "choice": e.answers[0], "label": bool(t ^ w)}
            for e, t, w in zip(examples, targets, wrong, strict=True)
        ]
        lines = "\n".join(map(json.dumps, rows))
        (folder / name / f"{stem}.jsonl").write_text(lines, encoding="utf-8")


@pytest.fixture
def spec(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    raw = yaml.safe_load(EXAMPLE.read_text(encoding="utf-8")) | SMALL
    for side, family in (("weak", "qwen2"), ("strong", "qwen3")):
        save_tiny(family, tmp_path / "hf" / side)
        raw["build"][side] = str(tmp_path / "hf" / side)
    raw["build"] |= {"folder": "rows", "baseline_seeds": 2}
    raw["held_out"] = ["math-qwen-paper"]
    for name in ("chat", "math"):
        write_folder(tmp_path / "rows", name)
    for name, value in (("HOME", tmp_path / "home"), ("TORCH_THREADS", 1), ("DEVICE", "cpu")):
        monkeypatch.setenv(f"AARLAB_{name}", str(value))
    monkeypatch.setenv("AARLAB_DEVICE_LOCKS", str(tmp_path / "k"))
    path = tmp_path / "spec.yaml"
    path.write_text(yaml.safe_dump(raw), encoding="utf-8")
    return path


def test_from_its_file_to_its_end(
    spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aarlab.testbed.students import options
    from aarlab.testbed.tasks import published

    def quick() -> tuple[options.AdapterOptions, options.HeadOptions]:
        adapter, training = options.published_adapter()  # tiny models learn at another rate
        return adapter, training.model_copy(update={"lr": 5e-3, "epochs": 6, "batch": 8})

    with monkeypatch.context() as patch:
        patch.setattr(published, "published_adapter", quick)
        built = CliRunner().invoke(cli, ["campaign", "build", str(spec)], catch_exceptions=False)
    assert "task math-qwen-paper" in built.output
    (tmp_path / "rows").rename(tmp_path / "away")  # what was built is used as it is
    checked = CliRunner().invoke(cli, ["campaign", "check", str(spec)], standalone_mode=False)
    assert checked.return_value == 0, checked.output
    run, root = RunDir(tmp_path / "run"), DataRoot(tmp_path / "home")
    code, out = finished(command(root, "campaign", "run", str(spec), "--out", str(run.path)), 900)
    assert code == 0, out
    export = load_export(run.export)
    team = {aar.name for aar in export.aars if aar.name.startswith("directed")}
    assert len(team) == 9
    assert {one.aar for one in export.submissions} == {*team, "human", "guards"}
    verified = [one for one in export.verifications if one.aar in team]
    assert {one.aar for one in verified} == team, "its first submission is a new best of each"
    assert {one.state for one in verified} == {"done"}, verified
    assert {one.ending.value for one in export.endings if one.aar in team} == {"finished"}
    spent = {aar.name: aar.spend.get("device_s", 0.0) for aar in export.aars}
    for name in (*team, "human"):
        assert spent[name] > 0, "its students were trained on a server"
    frozen = open_spec(run)
    assert frozen.build is None and set(frozen.versions) == {*frozen.tasks, *frozen.held_out}
    logs = [(run.path / name).read_text() for name in ("students.log", "students-1.log")]
    assert ["serving students on cpu-" in log for log in logs] == [True, True]
