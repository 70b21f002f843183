"""Published figures, how ours are compared with them, and refusals before anything is trained."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats
from typer.testing import CliRunner

from aarlab.cli.main import cli
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import Reported, accuracy, less_reported
from aarlab.core.wire import Run
from aarlab.testbed.methods import METHODS, method_of_recipe
from aarlab.testbed.models.catalogue import PAIRS, catalogue_of
from aarlab.testbed.running.against_published import Ran, differences
from aarlab.testbed.running.kept_runs import KeptRun, KeptRuns
from aarlab.testbed.tasks.published import published, setting


@pytest.mark.parametrize("name", ["chat", "math", "code"])
def test_shipped_figures_agree_with_each_other(name: str) -> None:
    found = published(name)
    assert found is not None and "no row" in found.source
    gap = found.ceiling.value - found.weak.value
    for one in found.methods.values():
        assert one.pgr.value == pytest.approx(
            (one.accuracy.value - found.weak.value) / gap, abs=0.01
        )
    assert published("other") is None


def test_a_reported_figure_has_the_t_interval_of_its_seeds() -> None:
    seeds = np.array([0.31, 0.22, 0.45, 0.1, 0.28])
    found = Reported(float(seeds.mean()), float(seeds.std()), 5).interval()
    low, high = stats.t.interval(0.95, 4, seeds.mean(), stats.sem(seeds))
    assert (found.low, found.high) == pytest.approx((low, high))
    with pytest.raises(BadInput, match="two seeds"):
        Reported(0.5, 0.1, 1).interval()


def test_the_difference_is_that_of_welch() -> None:
    rng = np.random.default_rng(0)
    correct_SN = rng.random((5, 300)) < 0.6
    ours = accuracy(correct_SN, tuple(map(str, range(300))))
    found = less_reported(ours, Reported(0.5, 0.03, 5))
    theirs = 0.03 / math.sqrt(4)
    assert found.value == pytest.approx(ours.value - 0.5)
    assert found.stderr == pytest.approx(math.hypot(ours.stderr, theirs))
    alone = Reported(0.5, 0.03, 5).interval()
    assert found.high - found.low > max(ours.high - ours.low, alone.high - alone.low)
    flat = less_reported(ours, Reported(0.5, 0.0, 5))  # nothing is known to vary: ours alone
    assert flat.high - flat.low == pytest.approx(ours.high - ours.low, rel=0.01)


def test_what_differs_from_the_published_settings_is_said() -> None:
    made, found = setting("qwen-paper"), published("chat")
    assert found is not None
    ran = Ran(PAIRS["qwen-paper"].title, 5, 5, 16, 6826, 1263, "bfloat16 on cuda")
    assert differences(made, made, found, ran) == []
    other = ran._replace(seeds=3, computed="float32 on cpu")
    assert differences(made, made, found, other) == [
        "seeds of each method: 3, published 5",
        "computed in: float32 on cpu, published bfloat16 on cuda",
    ]


def test_seeds_are_kept_by_content(tmp_path: Path) -> None:
    kept, method = KeptRuns.of(tmp_path, ["math@1", "bfloat16"]), METHODS["vanilla"]
    run = Run(seed=42, probs=[0.1, 0.7, 1 / 3])
    kept.keep(method, False, KeptRun(run, 12.5))
    found = KeptRuns.of(tmp_path, ["math@1", "bfloat16"]).find(method, 42, False)
    assert found == KeptRun(run, 12.5)
    recipe = setting("qwen-paper").recipes["confident"]
    others = (
        KeptRuns.of(tmp_path, ["math@2", "bfloat16"]).find(method, 42, False),
        kept.find(method, 43, False),
        kept.find(method, 42, True),
        kept.find(method_of_recipe("vanilla", recipe), 42, False),
    )
    assert others == (None,) * 4
    kept.forget()
    assert kept.find(method, 42, False) is None


def test_a_folder_method_is_never_kept(tmp_path: Path) -> None:
    from dataclasses import replace

    kept, own = KeptRuns.of(tmp_path, ["x"]), replace(METHODS["ue_zero_shot"], name="mine")
    kept.keep(own, False, KeptRun(Run(seed=1, probs=[0.5]), 1.0))
    assert not list(tmp_path.rglob("*.npz"))


def write_model(folder: Path, weights: bool = True) -> Path:
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"num_hidden_layers": 3}), encoding="utf-8")
    if weights:
        (folder / "model.safetensors").touch()
    return folder


def refused(*words: str) -> str:
    done = CliRunner().invoke(cli, ["testbed", "run", "--preset", "qwen-paper", *words])
    assert isinstance(done.exception, AarlabError), done.output
    return str(done.exception)


def test_bad_input_is_named_before_anything_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AARLAB_DEVICE", "cpu")
    good, data = write_model(tmp_path / "good"), ("--data", str(tmp_path / "none"))
    bare, empty = write_model(tmp_path / "bare", weights=False), tmp_path / "empty"
    empty.mkdir()

    def models(weak: Path, strong: Path = good) -> str:
        return refused(*data, "--weak", str(weak), "--strong", str(strong))

    assert "weak: there is no folder" in models(tmp_path / "nowhere")
    assert "strong:" in models(good, bare) and "no weights" in models(good, bare)
    assert "no config.json" in models(empty)
    assert "together" in refused(*data, "--weak", str(good))
    assert "not both" in refused(*data, "--weak", str(good), "--strong", str(good), "--pair", "x")
    assert "needs --data" in refused()
    assert "none" in models(good)
    monkeypatch.setenv("AARLAB_DTYPE", "float16")
    assert "AARLAB_DTYPE='float16'" in models(good)
    monkeypatch.setenv("AARLAB_DTYPE", "auto")
    monkeypatch.setenv("AARLAB_DEVICE", "cuda")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    assert "torch finds no CUDA device" in models(good)


def test_a_folder_is_named_once_and_another_of_its_name_apart(tmp_path: Path) -> None:
    from aarlab.testbed.models.by_path import pair_of_folders

    root, like = DataRoot(tmp_path / "home"), PAIRS["qwen-paper"]
    weak, strong = write_model(tmp_path / "a" / "Qwen!"), write_model(tmp_path / "b" / "Qwen!")
    first = pair_of_folders(root, weak, strong, like)
    assert pair_of_folders(root, weak, strong, like) == first
    known = catalogue_of(root)
    pair = known.pair(first)
    assert pair.weak.model != pair.strong.model and pair.strong.layer == 3
    assert known.model(pair.weak.model).template == known.model(like.weak.model).template
    assert known.model(pair.strong.model).context == 8192
    assert pair_of_folders(root, strong, weak, like) != first
