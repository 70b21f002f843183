"""What only an operator's commands may do: read the vault, verify the log. The vault's second door.

Covered: commands that show figures made from labels run as the user who owns the vault.
Not covered: a user who owns the vault can read it; AARs run under another uid or in a sandbox.
"""

from dataclasses import replace

from aarlab.core.chain import LogHead
from aarlab.core.layout import DataRoot, RunDir
from aarlab.store.log import verify_log
from aarlab.store.settings import StoreSettings
from aarlab.testbed.panel import Bench
from aarlab.testbed.stored_features import StoredFeatures
from aarlab.testbed.task import (
    PublicTask,
    has_hidden_train,
    load_inputs,
    load_weak_labels,
)
from aarlab.testbed.task_files import HIDDEN_WEAK_LABELS
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


def open_scorer(root: DataRoot) -> Scorer:
    """Exact scores for an operator's own tables; raises on loose modes of the vault."""
    return Scorer(Vault(root))


def selection_bench(root: DataRoot, task: PublicTask) -> Bench:
    """The hidden selection split with the fresh weak teachers, for an operator's final score.

    Methods train on the hidden train rows, if there are any, as in a verified run.
    """
    vault = root.vault_task(task.info.name)
    stored = [*sorted((task.folder / "features").glob("*.npz")), vault / "features/selection.npz"]
    labels = "weak_labels.npz"
    if has_hidden_train(task.info):
        task = replace(task, train=load_inputs(vault / "inputs" / "train_hidden.jsonl"))
        labels = HIDDEN_WEAK_LABELS
        stored.append(vault / "features/train_hidden.npz")
    return Bench(
        task=task,
        split="selection",
        rows=load_inputs(vault / "inputs" / "selection.jsonl"),
        weak_labels=load_weak_labels(vault / labels),
        features=StoredFeatures.open(stored),
        judge=open_scorer(root),
    )


def verified_head(run: RunDir, *heads: LogHead) -> LogHead:
    """The head of the run's log, in the database that the environment names, else its own file."""
    return verify_log(StoreSettings().place(run), *heads)
