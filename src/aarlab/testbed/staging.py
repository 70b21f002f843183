"""Copies of hidden inputs for one verification run: rows, fresh weak labels, features, and no
label.

The copies carry no canary, so that a sandbox never holds one.
"""

from pathlib import Path
from typing import NamedTuple

from aarlab.core.errors import NotFound
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot
from aarlab.core.types import Split
from aarlab.testbed.bundle import weak_label_arrays, write_arrays
from aarlab.testbed.stored_features import load_features
from aarlab.testbed.task import input_lines, load_inputs, load_weak_labels


class Staged(NamedTuple):
    """Paths for a Job, and the teacher seeds whose labels are there."""

    eval_inputs: Path
    weak_labels: Path
    features: Path
    teacher_seeds: tuple[int, ...]


def stage_verification(root: DataRoot, task: str, split: Split, folder: Path) -> Staged:
    """Write the three files of a split into `folder`; raises NotFound, Damaged."""
    vault = root.vault_task(task)
    features = vault / "features" / f"{split}.npz"
    if not features.is_file():
        raise NotFound(f"task {task} has no features for {split}: build it with certify_features")
    folder.mkdir(parents=True, exist_ok=True)
    labels = load_weak_labels(vault / "weak_labels.npz")
    staged = Staged(
        folder / "inputs.jsonl", folder / "weak_labels.npz", folder / "features.npz", labels.seeds
    )
    write_atomic(staged.eval_inputs, input_lines(load_inputs(vault / "inputs" / f"{split}.jsonl")))
    write_arrays(staged.weak_labels, weak_label_arrays(labels))
    write_arrays(staged.features, load_features(features))
    return staged
