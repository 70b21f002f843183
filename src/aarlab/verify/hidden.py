"""What a verified run may see of the vault: inputs, features and weak labels; never a truth.

The files are read and written anew, so that the canary each vault file carries stays in the vault.
"""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.bundle import weak_label_arrays
from aarlab.testbed.stored_features import load_arrays, load_features
from aarlab.testbed.task import input_lines, load_inputs, load_weak_labels

INPUTS, WEAK_LABELS, FEATURES = "inputs.jsonl", "weak_labels.npz", "features.npz"
LOWER = "lower.npz"


def hidden_files(vault_task: Path, split: str) -> dict[str, bytes]:
    """The files of one hidden split by the name they get in the verifier's workspace."""
    inputs = load_inputs(vault_task / "inputs" / f"{split}.jsonl")
    labels = load_weak_labels(vault_task / WEAK_LABELS)
    files = {
        INPUTS: input_lines(inputs).encode(),
        WEAK_LABELS: _archive(weak_label_arrays(labels)),
        FEATURES: _archive(load_features(vault_task / "features" / f"{split}.npz")),
    }
    lower = vault_task / "lower" / f"{split}.npz"
    return files | ({LOWER: _archive(load_arrays(lower))} if lower.is_file() else {})


def _archive(arrays: Mapping[str, NDArray[np.generic]]) -> bytes:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    return buffer.getvalue()
