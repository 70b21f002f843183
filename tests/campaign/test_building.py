"""Tasks that a campaign builds first; folders, models and devices in `campaign check`."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from aarlab.campaign import checking
from aarlab.campaign.building import builds
from aarlab.campaign.checking import Remark, estimate, estimate_rows, remarks
from aarlab.campaign.presets import published_setting
from aarlab.campaign.runner import create, open_spec
from aarlab.campaign.spec import CampaignSpec, load_spec, parse_spec
from aarlab.cli.main import cli
from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot, RunDir

EXAMPLE = Path(__file__).parents[2] / "examples" / "published_setting.yaml"


@pytest.fixture(autouse=True)
def no_card(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "n_cuda", lambda: 0)


def with_data(folder: Path, **changes: object) -> CampaignSpec:
    raw = published_setting().model_dump(mode="json")
    raw["build"] |= {"folder": str(folder)}
    return parse_spec({**raw, **changes}, "spec")


def write_data(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).mkdir(parents=True)
        for stem in ("train_label", "train_unlabel", "test"):
            (folder / name / f"{stem}.jsonl").touch()
    return folder


def of(spec: CampaignSpec, root: DataRoot, *places: str) -> list[Remark]:
    found = remarks(spec, root, lambda _task: False)
    return [remark for remark in found if remark.place[:1] in [(place,) for place in places]]


def write_models(folder: Path) -> dict[str, str]:
    for side in ("weak", "strong"):
        (folder / side).mkdir(parents=True)
        (folder / side / "config.json").write_text('{"num_hidden_layers": 2}', encoding="utf-8")
        (folder / side / "model.safetensors").write_bytes(bytes(1000))
    return {side: str(folder / side) for side in ("weak", "strong")}


def test_a_spec_builds_the_tasks_of_its_setting(tmp_path: Path) -> None:
    spec = with_data(tmp_path, tasks=["chat-qwen-paper"], held_out=["math"])
    assert [(one.task, one.folder) for one in builds(spec)] == [
        ("chat-qwen-paper", tmp_path / "chat")
    ]


def test_paths_are_relative_to_the_spec_and_not_frozen(tmp_path: Path) -> None:
    spec = load_spec(EXAMPLE)
    assert spec.build is not None and spec.build.folder == str(EXAMPLE.parent / "data")
    run = RunDir(tmp_path / "run")
    create(run, spec, {"why": "test"})
    assert open_spec(run).build is None and str(EXAMPLE.parent) not in run.spec.read_text()
    create(run, spec, {"why": "the same file again is the same campaign"})


def test_folders_and_models_that_are_missing_are_named(tmp_path: Path) -> None:
    root = DataRoot(tmp_path / "home")
    data = write_data(tmp_path / "data", "chat", "math")
    (data / "math" / "test.jsonl").unlink()
    texts = [remark.text for remark in of(with_data(data), root, "build")]
    assert len(texts) == 4, texts
    assert f"math-qwen-paper: {data}/math holds no test" in texts[0]
    assert "code-qwen-paper: there is no folder" in texts[1]
    assert "models pull qwen1.5-0.5b-chat" in texts[2]
    raw = with_data(data).model_dump(mode="json")
    raw["build"] |= write_models(tmp_path / "hf")
    given = parse_spec(raw, "spec")
    assert not any("models pull" in remark.text for remark in of(given, root, "build"))
    (tmp_path / "hf" / "strong" / "model.safetensors").unlink()
    assert "strong:" in of(given, root, "build")[-1].text


def test_a_complete_build_is_a_note(tmp_path: Path) -> None:
    raw = with_data(write_data(tmp_path / "data", "chat", "math", "code")).model_dump(mode="json")
    raw["build"] |= write_models(tmp_path / "hf")
    found = of(parse_spec(raw, "spec"), DataRoot(tmp_path / "home"), "build", "tasks", "held_out")
    assert [remark.gravity for remark in found] == ["note"] * 3
    assert "16 seeds" in found[0].text


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"setting": "other"}, "there are qwen-paper"),
        ({"weak": "x"}, "together"),
        ({"weak": "x", "strong": "y", "pair": "z"}, "not both"),
        ({"baseline_seeds": 1}, "baseline_seeds"),
    ],
)
def test_a_wrong_build_is_refused(changes: dict[str, object], said: str) -> None:
    raw = published_setting().model_dump(mode="json")
    with pytest.raises(BadInput, match=said):
        parse_spec({**raw, "build": {**raw["build"], **changes}}, "spec")


def test_a_build_that_builds_nothing_is_an_error(tmp_path: Path) -> None:
    spec = with_data(tmp_path, tasks=["math"], held_out=[])
    (remark, *_) = [r for r in of(spec, DataRoot(tmp_path), "build") if r.gravity == "error"]
    assert "builds nothing" in remark.text


@pytest.mark.parametrize(
    ("there", "wanted", "gravity", "said"),
    [
        (0, {"device": "cuda"}, "to do", "no CUDA device"),
        (2, {"devices": 3}, "to do", "torch finds 2"),
        (8, {"devices": "all"}, "note", "8 of 8 CUDA devices, for 9 AARs"),
        (0, {}, "note", "the CPU"),
    ],
)
def test_devices_are_looked_for(
    there: int,
    wanted: dict[str, object],
    gravity: str,
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checking, "n_cuda", lambda: there)
    spec = with_data(tmp_path, student_server=wanted)
    (remark,) = of(spec, DataRoot(tmp_path), "student_server")
    assert remark.gravity == gravity and said in remark.text


def test_a_device_elsewhere_must_be_asked_for(tmp_path: Path) -> None:
    spec = with_data(
        tmp_path, student_server={"device": "cuda"}, executor={"name": "slurm", "aars_per_pod": 1}
    )
    found = of(spec, DataRoot(tmp_path), "student_server")
    assert found[0].gravity == "error" and "executor.gpus" in found[0].text
    asked = {"name": "slurm", "aars_per_pod": 1, "gpus": 1}
    spec = with_data(tmp_path, student_server={"device": "cuda"}, executor=asked)
    assert [r.gravity for r in of(spec, DataRoot(tmp_path), "student_server")] == ["note"]
    spec = with_data(
        tmp_path, student_server={"device": "cuda"}, executor={**asked, "devices_per_pod": 2}
    )
    few = next(r for r in of(spec, DataRoot(tmp_path), "executor") if r.gravity == "error")
    assert "`devices_per_pod` is 2, but `gpus` is 1" in few.text


def test_devices_have_a_price(tmp_path: Path) -> None:
    spec = published_setting()
    shared, alone = (
        estimate(spec.model_copy(update={"student_server": server}))
        for server in (spec.student_server, None)
    )
    rows = dict(estimate_rows(spec, shared))
    assert rows["devices"] == "1 for 89 hours at $3.5: $312 if rented throughout"
    assert shared.devices == 1 and alone.devices is None
    # Nine AARs that share a device cannot use half of one each.
    saved = alone.expected_dollars_per_hour - shared.expected_dollars_per_hour
    assert saved == pytest.approx(3.5 * (0.5 - 1 / 9))
    slurm = with_data(tmp_path, executor={"name": "slurm", "aars_per_pod": 1, "gpus": 1})
    assert "9 for 89 hours" in dict(estimate_rows(slurm, estimate(slurm)))["devices"]
    pods = with_data(tmp_path, executor={"name": "slurm", "aars_per_pod": 5, "gpus": 2})
    assert "4 for 89 hours" in dict(estimate_rows(pods, estimate(pods)))["devices"]


def test_a_disk_that_is_too_small_is_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checking, "bytes_needed", lambda spec, root: 10**18)
    (remark,) = of(with_data(tmp_path), DataRoot(tmp_path), "alerts")
    assert remark.gravity == "to do" and "GB free" in remark.text


def test_the_command_names_all_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
    words = ["campaign", "check", str(EXAMPLE), "--data", str(tmp_path / "none")]
    done = CliRunner().invoke(cli, words, standalone_mode=False)
    assert done.return_value == 1, done.output
    for said in (
        "none/chat",
        "models pull qwen3-4b-base",
        "ANTHROPIC_API_KEY",
        "the CPU",
        "devices",
    ):
        assert said in done.output
    done = CliRunner().invoke(cli, ["campaign", "run", *words[2:], "--out", str(tmp_path / "run")])
    assert done.exception is not None and "nothing was started" in str(done.exception)
    assert not (tmp_path / "run").exists()
