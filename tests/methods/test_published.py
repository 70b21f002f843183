"""The published setting through its one command, with tiny stand-ins of both architectures."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_task import tiny_qwen_pair, word_rows
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import AarlabError, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.students.adapters import tuning
from aarlab.testbed.tasks.published import setting
from aarlab.testbed.tasks.task import load_info, load_weak_labels

pytestmark = pytest.mark.gate

SHARED = Path(__file__).parents[3] / "shared" / "data"


def write_folder(folder: Path, noise: float) -> Path:
    """Rows in the study's format; the teacher's own labels are wrong in a share `noise`."""
    folder.mkdir()
    for stem, split, n in (
        ("train_label", "teacher", 60),
        ("train_unlabel", "train", 96),
        ("test", "test", 200),
    ):
        examples, targets = word_rows(n, split)
        wrong = np.random.default_rng(1).random(n) < (noise if split == "teacher" else 0)
        rows = [
            {"question": e.prompt, "choice": e.answers[0], "label": bool(t ^ w), "group": e.group}
            for e, t, w in zip(examples, targets, wrong, strict=True)
        ]
        (folder / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return folder


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DataRoot:
    root = DataRoot(tmp_path / "home")
    tiny_qwen_pair(root, tmp_path / "hf")
    for name, value in (("HOME", str(root.path)), ("TORCH_THREADS", "1"), ("DEVICE", "cpu")):
        monkeypatch.setenv(f"AARLAB_{name}", value)
    return root


def run(folder: Path, *more: str) -> str:
    words = ["testbed", "run", "--preset", "qwen-paper", "--data", str(folder)]
    words += ["--pair", "tiny-qwen", "--methods", "vanilla", "--baseline-seeds", "2"]
    done = CliRunner().invoke(cli, [*words, *more], catch_exceptions=True)
    if isinstance(done.exception, AarlabError):
        raise done.exception
    assert done.exit_code == 0, done.output
    return done.output


def test_the_preset_says_what_was_published() -> None:
    made = setting("qwen-paper")
    adapter, training = made.adapter, made.training
    assert (adapter.kind, adapter.rank, adapter.alpha, adapter.readout) == (
        "lora",
        32,
        32,
        "labels",
    )
    assert (training.lr, training.epochs, training.batch, training.loss) == (1e-4, 5, 32, "ce")
    assert (made.first_seed, made.seeds, made.pair) == (42, 5, "qwen-paper")
    with pytest.raises(NotFound, match="qwen-paper"):
        setting("other")


def test_a_wrong_method_is_said_before_anything_is_trained(root: DataRoot, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no method 'vanila'"):
        run(write_folder(tmp_path / "words", 0.4), "--methods", "vanilla,vanila")
    assert not root.public.exists()


def test_teacher_transfer_and_ceiling_through_one_command(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aarlab.testbed.students import options
    from aarlab.testbed.tasks import published

    def quick() -> tuple[options.AdapterOptions, options.HeadOptions]:
        adapter, training = options.published_adapter()  # tiny models learn at another rate
        return adapter, training.model_copy(update={"lr": 5e-3, "epochs": 6, "batch": 8})

    monkeypatch.setattr(published, "published_adapter", quick)
    folder = write_folder(tmp_path / "words", noise=0.5)
    out = tmp_path / "out.json"
    text = run(folder, "--seeds", "2", "--json", str(out))
    assert "ceiling, seed 42" in text and "weak teacher, seed 43" in text
    found = json.loads(out.read_text())
    (vanilla,) = found["methods"]
    base = found["baselines"]
    assert found["split"] == "whole test" and base["n_rows"] == 200
    assert found["published"] == {} and "no published figures for words" in text
    assert "gap: not clear" not in text, "a table of PGRs denies none, whatever other splits have"
    assert base["ceiling"] >= 0.9 > base["weak"] and vanilla["pgr"]["low"] < vanilla["pgr"]["high"]
    name = "words-tiny-qwen"
    assert load_weak_labels(root.public_task(name) / "weak_labels.npz").seeds == (42, 43)
    info = load_info(root.public_task(name))
    assert info.settings["student"]["model"] == "strong"
    plain, calls = tuning.tune, []
    monkeypatch.setattr(
        "aarlab.testbed.students.adapters.student.tune",
        lambda *args: (calls.append(1), plain(*args))[1],
    )
    text = run(folder, "--seeds", "2")
    assert not calls and "2 of 2 seeds kept" in text, "all seeds are there: nothing is trained"
    run(folder, "--seeds", "1", "--fresh")
    assert calls == [1], "teachers and ceilings are there: the one student alone is trained"
    assert not list((root.path / "private" / "builds").iterdir())


def test_an_interrupted_build_goes_on_with_the_next_seed(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plain, calls = write_folder(tmp_path / "words", 0.4), tuning.tune, []

    def counted(*args, **more):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return plain(*args, **more)

    monkeypatch.setattr("aarlab.testbed.students.adapters.student.tune", counted)
    with pytest.raises((AssertionError, KeyboardInterrupt)):
        run(folder, "--seeds", "1", "--epochs", "1")
    run(folder, "--seeds", "1", "--epochs", "1")
    # two teachers, two fresh ones, two ceilings, two plain students, one student; one of them twice
    assert len(calls) == 4 + 2 + 2 + 1 + 1


def test_models_by_path_an_interrupted_method_and_the_published_figures(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, plain, calls = write_folder(tmp_path / "math", 0.4), tuning.tune, []
    hf, out = tmp_path / "hf", tmp_path / "out.json"
    words = ["--pair", "", "--weak", str(hf / "weak"), "--strong", str(hf / "strong")]
    words += ["--epochs", "1", "--seeds", "2", "--json", str(out)]

    def counted(*args, **more):
        calls.append(1)
        if len(calls) == 10:  # after 4 teachers, 2 ceilings, 2 plain students and one student
            raise KeyboardInterrupt
        return plain(*args, **more)

    monkeypatch.setattr("aarlab.testbed.students.adapters.student.tune", counted)
    with pytest.raises((AssertionError, KeyboardInterrupt)):
        run(folder, *words)
    assert not out.exists(), "the same command resumes"
    text = run(folder, *words)
    assert len(calls) == 11 and "1 of 2 seeds kept" in text
    found = json.loads(out.read_text(encoding="utf-8"))["published"]
    figures = {one["figure"]: one for one in found["figures"]}
    kinds = {"weak teacher, accuracy", "ceiling, accuracy"}
    assert kinds < figures.keys() and len(figures) == 3
    for one in figures.values():
        assert one["published"]["low"] < one["published"]["high"]
        expected = one["ours"]["value"] - one["published"]["value"]
        assert one["difference"]["value"] == pytest.approx(expected)
    assert figures["ceiling, accuracy"]["published"]["value"] == 0.7176
    differ = "\n".join(found["settings_differ"])
    for said in (
        "pair of models",
        "by path",
        "epochs: 1, published 5",
        "test: 200, published 1,315",
    ):
        assert said in differ
    assert all(line in " ".join(text.split()) for line in found["settings_differ"])


@pytest.mark.slow
@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared data are not beside this repository")
@pytest.mark.parametrize("name", ["math", "chat"])
def test_real_sets_end_to_end(root: DataRoot, name: str) -> None:
    text = run(SHARED / name, "--seeds", "1", "--epochs", "1")
    assert "vanilla" in text and "exceed the context" in text
