"""A pair of model folders given by path, put as the models of another pair are put."""

import json
import re
from pathlib import Path

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import (
    TEMPLATES,
    ModelEntry,
    Pair,
    add_own,
    catalogue_of,
)

WEIGHTS = ("*.safetensors", "*.bin")


def pair_of_folders(root: DataRoot, weak: Path, strong: Path, like: Pair) -> str:
    """Return the name of a pair of two folders in Hugging Face format, cut after all their blocks.

    Template and context are those of the models of `like`. The pair and its models are added to the
    data root's `models.yaml` unless they are there. Raises NotFound or BadInput naming the folder
    and what it lacks.
    """
    folders = {"weak": weak.expanduser().absolute(), "strong": strong.expanduser().absolute()}
    blocks = {side: n_blocks_of(side, folder) for side, folder in folders.items()}
    known, names = catalogue_of(root), dict[str, str]()
    for side, folder in folders.items():
        entry = known.model(getattr(like, side).model)
        names[side] = _name(folder, entry)
        if names[side] not in known.models:
            template = next(n for n, t in TEMPLATES.items() if t == entry.template)
            value = {"folder": str(folder), "template": template, "context": entry.context}
            add_own(root, "models", names[side], value)
    pair = f"local-{_mark(names['weak'], names['strong'])}"
    if pair not in known.pairs:
        cut = {side: f"{name}@{blocks[side]}" for side, name in names.items()}
        add_own(root, "pairs", pair, cut)
    return pair


def n_blocks_of(side: str, folder: Path) -> int:
    """Return the number of blocks of the model in a folder, which must hold weights too.

    Raises NotFound or BadInput, naming the option `side` and what the folder lacks.
    """
    if not folder.is_dir():
        raise NotFound(f"{side}: there is no folder {folder}")
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        n_blocks = int(config["num_hidden_layers"])
    except FileNotFoundError:
        raise BadInput(f"{side}: {folder} holds no config.json: give a model's folder") from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"{side}: {folder}/config.json names no num_hidden_layers") from error
    if not any(any(folder.glob(pattern)) for pattern in WEIGHTS):
        raise BadInput(
            f"{side}: {folder} holds no weights (model.safetensors): fetch all files of the model"
        )
    return n_blocks


def weight_bytes(folder: Path) -> int:
    """Return the bytes of the weights in a folder, 0 where there are none."""
    return max(sum(path.stat().st_size for path in folder.glob(each)) for each in WEIGHTS)


def _name(folder: Path, entry: ModelEntry) -> str:
    """Return a catalogue name of a folder: its own, and a mark of where it lies and how it is put.

    Another folder of the same name has another mark.
    """
    plain = re.sub(r"[^a-z0-9._-]+", "-", folder.name.lower()).strip("-._") or "model"
    return f"{plain[:50]}-{_mark(str(folder), repr(entry.template), str(entry.context))}"


def _mark(*words: str) -> str:
    return sha256_hex("\n".join(words).encode())[:8]
