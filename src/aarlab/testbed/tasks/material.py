"""What a verified run of a task reads, by name: the list of what a verification pod is given.

It is a list of what may leave the vault, not of what must stay: no truth, no baselines, no canaries
and no other split are on it. Names are below the task's folders, `vault/` and `public/`.

Covered: `verify.hidden` runs on these files alone (`verify/test_node.py`).
"""

import secrets
from pathlib import Path

from aarlab.core.files import write_new
from aarlab.core.layout import DataRoot
from aarlab.testbed.tasks.task import HIDDEN_TRAIN
from aarlab.testbed.tasks.task_files import (
    HIDDEN_WEAK_LABELS,
    TWIN_FEATURES,
    TWIN_INPUTS,
    TWIN_LOWER,
    TWIN_REFERENCE,
)

SECRET = "private/verify.secret"
SPLITS = ("selection", "certify")


def run_secret(root: DataRoot) -> bytes:
    """Return the data root's secret for verified runs; the first verifier draws it."""
    path = root.path / SECRET
    if not path.is_file():
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_new(path, secrets.token_bytes(32), 0o600)  # unless another verifier just did
    return path.read_bytes()


def has_twins(vault_task: Path, split: str) -> bool:
    """Return whether the split has twins: only selection, and not in tasks built before twins."""
    return split == "selection" and (vault_task / TWIN_INPUTS).is_file()


def material_of(root: DataRoot, task: str, split: str) -> dict[str, Path]:
    """Return the files of this machine that a verified run of the split reads, by name."""
    vault, public = root.vault_task(task), root.public_task(task)
    assert split in SPLITS
    names = [f"inputs/{split}.jsonl", f"features/{split}.npz", f"lower/{split}.npz"]
    if (vault / "inputs" / f"{HIDDEN_TRAIN}.jsonl").is_file():
        names += [f"inputs/{HIDDEN_TRAIN}.jsonl", HIDDEN_WEAK_LABELS]
        names += [f"features/{HIDDEN_TRAIN}.npz", f"lower/{HIDDEN_TRAIN}.npz"]
    else:
        names.append("weak_labels.npz")  # of fresh teachers
    if has_twins(vault, split):
        names += [TWIN_INPUTS, TWIN_FEATURES, TWIN_LOWER, TWIN_REFERENCE]
    run_secret(root)
    found = {f"vault/{name}": vault / name for name in names if (vault / name).is_file()}
    for path in sorted(public.rglob("*")):
        if path.is_file():
            found[f"public/{path.relative_to(public)}"] = path
    return found | {SECRET: root.path / SECRET}
