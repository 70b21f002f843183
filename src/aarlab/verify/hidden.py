"""What a verified run may see of the vault: inputs, features and weak labels; never a truth.

The files are read and written anew, so that the canary each vault file carries stays in the vault.
Features of twins (rows in another style) are sorted in among those of rows: nothing in the student
that a method holds tells which is which.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aarlab.core.errors import Damaged
from aarlab.testbed.bundle import weak_label_arrays
from aarlab.testbed.stored_features import Arrays, load_arrays, load_features
from aarlab.testbed.task import input_lines, load_inputs, load_weak_labels
from aarlab.testbed.task_files import TWIN_FEATURES, TWIN_INPUTS, TWIN_LOWER, TWIN_REFERENCE
from aarlab.testbed.twins import TwinReference

INPUTS, WEAK_LABELS, FEATURES = "inputs.jsonl", "weak_labels.npz", "features.npz"
LOWER = "lower.npz"
TWINS, MORE_LOWER = "twins.jsonl", "more-lower.npz"


def hidden_files(vault_task: Path, split: str) -> dict[str, bytes]:
    """The files of one hidden split by the name they get in the verifier's workspace."""
    features = load_features(vault_task / "features" / f"{split}.npz")
    files = {}
    if has_twins(vault_task, split):
        files[TWINS] = input_lines(load_inputs(vault_task / TWIN_INPUTS)).encode()
        features = _sorted_in(features, load_features(vault_task / TWIN_FEATURES))
        if (vault_task / TWIN_LOWER).is_file():
            files[MORE_LOWER] = _archive(load_arrays(vault_task / TWIN_LOWER))
    inputs = load_inputs(vault_task / "inputs" / f"{split}.jsonl")
    labels = load_weak_labels(vault_task / WEAK_LABELS)
    files |= {
        INPUTS: input_lines(inputs).encode(),
        WEAK_LABELS: _archive(weak_label_arrays(labels)),
        FEATURES: _archive(features),
    }
    lower = vault_task / "lower" / f"{split}.npz"
    return files | ({LOWER: _archive(load_arrays(lower))} if lower.is_file() else {})


def has_twins(vault_task: Path, split: str) -> bool:
    """Twins are of selection rows; tasks built before there were any have none."""
    return split == "selection" and (vault_task / TWIN_INPUTS).is_file()


def twin_reference(vault_task: Path) -> TwinReference:
    """How far honest readers follow the twins' style; Damaged when the file cannot be read."""
    path = vault_task / TWIN_REFERENCE
    try:
        return TwinReference.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        raise Damaged(f"{path}: cannot be read; build the task again") from error


def _sorted_in(rows: Arrays, twins: Arrays) -> Arrays:
    """One table of both in the order of their keys, which are hashes."""
    new_M = ~np.isin(twins["keys"], rows["keys"])
    merged = {name: np.concatenate([rows[name], twins[name][new_M]]) for name in rows}
    order_M = np.argsort(merged["keys"])
    return {name: column[order_M] for name, column in merged.items()}


def _archive(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
