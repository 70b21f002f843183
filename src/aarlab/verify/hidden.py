"""What a verified run works on: hidden inputs, features and weak labels; never a truth.

A run of the blind class gets handles of these rows from the judge. One of the open class gets
files. Where a task names its strong model, the judge also learns where that lies.

The files are read and written again, so that the canary each vault file carries stays in the vault.
Features of twins (rows in another style) are sorted in among those of rows. The student that a
method holds does not reveal which is which.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aarlab.core.errors import Damaged
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.core.wire import TrainRows
from aarlab.testbed.models.record import read_record
from aarlab.testbed.students.features import Arrays, StoredFeatures, load_arrays, load_features
from aarlab.testbed.tasks.material import has_twins, run_secret
from aarlab.testbed.tasks.task import (
    HIDDEN_TRAIN,
    WeakLabels,
    input_lines,
    load_info,
    load_inputs,
    load_weak_labels,
    model_at_hand,
    weak_label_arrays,
)
from aarlab.testbed.tasks.task_files import (
    HIDDEN_WEAK_LABELS,
    TWIN_FEATURES,
    TWIN_INPUTS,
    TWIN_LOWER,
    TWIN_REFERENCE,
)
from aarlab.testbed.tasks.twins import TwinReference
from aarlab.verify.basis import Basis
from aarlab.verify.judge import Holding
from aarlab.verify.strong import Place

INPUTS, WEAK_LABELS, FEATURES = "inputs.jsonl", "weak_labels.npz", "features.npz"
LOWER = "lower.npz"
TWINS, MORE_LOWER = "twins.jsonl", "more-lower.npz"
TRAIN_INPUTS, TRAIN_FEATURES, TRAIN_LOWER = "train.jsonl", "train-features.npz", "train-lower.npz"


class TrainSide(NamedTuple):
    """Train rows of a verified run, the fresh teachers' labels of them, and their features."""

    rows: tuple[Example, ...]
    labels: WeakLabels
    features: Arrays
    kind: TrainRows
    file: Path  # of the features


def train_side(public_task: Path, vault_task: Path) -> TrainSide:
    """Return hidden train rows, or the public ones of a task that has no hidden ones."""
    path = vault_task / "inputs" / f"{HIDDEN_TRAIN}.jsonl"
    if not path.is_file():
        rows = load_inputs(public_task / "inputs" / "train.jsonl")
        labels = load_weak_labels(vault_task / WEAK_LABELS)
        features = public_task / "features" / "train.npz"
    else:
        rows, labels = load_inputs(path), load_weak_labels(vault_task / HIDDEN_WEAK_LABELS)
        features = vault_task / "features" / f"{HIDDEN_TRAIN}.npz"
    if labels.ids != tuple(row.id for row in rows):
        raise Damaged(f"{vault_task}: weak labels and train rows differ; build the task again")
    kind: TrainRows = "hidden" if path.is_file() else "public"
    return TrainSide(rows, labels, load_features(features), kind, features)


def held_for(root: DataRoot, task: str, split: str, basis: Basis) -> tuple[Holding, TrainRows]:
    """Return what a run of the blind class works on, and whether its train rows are hidden."""
    public_task, vault_task = root.public_task(task), root.vault_task(task)
    info, train = load_info(public_task), train_side(public_task, vault_task)
    files = [vault_task / "features" / f"{split}.npz"]
    lower = [vault_task / "lower" / f"{split}.npz"]
    twins: tuple[Example, ...] = ()
    if has_twins(vault_task, split):
        twins = load_inputs(vault_task / TWIN_INPUTS)
        files.append(vault_task / TWIN_FEATURES)
        lower.append(vault_task / TWIN_LOWER)
    lower.append(public_task / "lower" / "train.npz")
    if train.kind == "hidden":
        lower[-1] = vault_task / "lower" / f"{HIDDEN_TRAIN}.npz"
    rows = load_inputs(vault_task / "inputs" / f"{split}.jsonl")
    name = model_at_hand(info)
    place = None
    if name is not None:
        read_record(root.models / name)  # NotFound says how to fetch it
        there = tuple(path for path in lower if path.is_file())
        place = Place(root.models / name, (train.file, *files), there)
    found = Holding(
        info=info,
        train=train.rows,
        labels=train.labels,
        rows=rows,
        twins=twins,
        features=StoredFeatures([train.features, *map(load_features, files)]),
        secret=run_secret(root),
        basis=basis,
        place=place,
    )
    return found, train.kind


def hidden_files(
    root: DataRoot, task: str, split: str, train: TrainSide | None = None
) -> dict[str, bytes]:
    """Return the files of a run of the open class, by their names in the verifier's workspace.

    `train` is the task's train side, where it was read already.
    """
    public_task, vault_task = root.public_task(task), root.vault_task(task)
    features = load_features(vault_task / "features" / f"{split}.npz")
    files = {}
    if has_twins(vault_task, split):
        files[TWINS] = input_lines(load_inputs(vault_task / TWIN_INPUTS)).encode()
        features = _sorted_in(features, load_features(vault_task / TWIN_FEATURES))
        if (vault_task / TWIN_LOWER).is_file():
            files[MORE_LOWER] = _archive(load_arrays(vault_task / TWIN_LOWER))
    inputs = load_inputs(vault_task / "inputs" / f"{split}.jsonl")
    train = train or train_side(public_task, vault_task)
    files |= {
        INPUTS: input_lines(inputs).encode(),
        WEAK_LABELS: _archive(weak_label_arrays(train.labels)),
        FEATURES: _archive(features),
    }
    if train.kind == "hidden":
        files |= {
            TRAIN_INPUTS: input_lines(train.rows).encode(),
            TRAIN_FEATURES: _archive(train.features),
        }
        if (path := vault_task / "lower" / f"{HIDDEN_TRAIN}.npz").is_file():
            files[TRAIN_LOWER] = _archive(load_arrays(path))
    lower = vault_task / "lower" / f"{split}.npz"
    return files | ({LOWER: _archive(load_arrays(lower))} if lower.is_file() else {})


def twin_reference(vault_task: Path) -> TwinReference:
    """Read how far honest readers follow the twins' style.

    Raises Damaged when the file cannot be read.
    """
    path = vault_task / TWIN_REFERENCE
    try:
        return TwinReference.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(f"{path}: cannot be read; build the task again") from error


def _sorted_in(rows: Arrays, twins: Arrays) -> Arrays:
    """Merge both tables into one in the order of their keys, which are hashes."""
    new_M = ~np.isin(twins["keys"], rows["keys"])
    merged = {name: np.concatenate([rows[name], twins[name][new_M]]) for name in rows}
    order_M = np.argsort(merged["keys"])
    return {name: column[order_M] for name, column in merged.items()}


def _archive(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
