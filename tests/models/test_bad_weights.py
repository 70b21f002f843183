"""Model files that do not fit together are refused at the pull, by name, and nothing is kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from tiny_models import VOCABULARY, tiny_entry

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.catalogue import FolderSource
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.pull import pull_entry

UP = "model.layers.1.mlp.up_proj.weight"
Change = Callable[[Path], None]


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def apply(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})

    return apply


def tokens(change: Callable[[dict[str, object]], object]) -> Change:
    def apply(folder: Path) -> None:
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        change(tokenizer)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))

    return apply


def larger_ids(tokenizer: dict[str, object]) -> None:
    vocabulary = tokenizer["model"]["vocab"]  # type: ignore[index]
    for token in list(vocabulary)[-40:]:
        vocabulary[token] += 400


def config(**values: object) -> Change:
    def apply(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return apply


BAD: dict[str, tuple[Change, type[Exception], str]] = {
    "more ids than rows": (
        tokens(larger_ids),
        BadInput,
        f"ids up to 719, its embedding {VOCABULARY} rows",
    ),
    "a vocabulary smaller than the weights": (
        config(vocab_size=200),
        BadInput,
        "another shape than its config.json says for model.embed_tokens.weight",
    ),
    "nan": (weights(lambda t: t[UP].__setitem__((3, 3), float("nan"))), BadInput, f"{UP} hold NaN"),
    "a missing matrix": (weights(lambda t: t.pop(UP)), BadInput, f"has no weights for {UP}"),
    "a block too many": (
        weights(lambda t: t.update({UP.replace(".1.", ".9."): t[UP].clone()})),
        BadInput,
        "config.json does not know",
    ),
    "half a file": (
        lambda folder: (folder / "model.safetensors").write_bytes(b"\x80" * 100) and None,
        NotFound,
        "cannot read a model from .*must hold config.json",
    ),
    "an empty tokenizer": (tokens(dict.clear), NotFound, "cannot read a model from"),
    "no heads": (config(num_attention_heads=0), NotFound, "cannot read a model from"),
}


@pytest.mark.parametrize("name", BAD)
def test_files_that_do_not_fit_are_named(
    tiny_folders: dict[str, Path], tmp_path: Path, name: str
) -> None:
    change, kind, says = BAD[name]
    folder, root = tmp_path / "model", DataRoot(tmp_path / "home")
    shutil.copytree(tiny_folders["llama"], folder)
    change(folder)
    with pytest.raises(kind, match=says):
        pull_entry(tiny_entry(FolderSource(folder)), root)
    assert [path.name for path in root.models.iterdir()] == [".tiny.lock"]


def test_an_added_token_beyond_the_embedding_is_read_as_its_letters(
    tiny_folders: dict[str, Path], tmp_path: Path
) -> None:
    """As a padding token that was never trained: a row may spell it."""
    folder = tmp_path / "model"
    shutil.copytree(tiny_folders["llama"], folder)
    added = {
        "id": VOCABULARY,
        "content": "<pad>",
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": True,
    }
    tokens(lambda t: t["added_tokens"].append(added))(folder)  # type: ignore[attr-defined]
    pulled = pull_entry(tiny_entry(FolderSource(folder)), DataRoot(tmp_path / "home"))
    model = LanguageModel.load(pulled)
    item = [AnswerItem("What does <pad> mean?", "It is <pad>.")]
    assert model.features(item, Wanted((2,), False)).states_LID.shape == (1, 1, 32)
