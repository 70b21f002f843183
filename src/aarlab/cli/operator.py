"""Reading the vault, which only an operator's commands may do: the second way into it.

Covered: commands that show figures made from labels run as the user who owns the vault.
Not covered: a user who owns the vault can read it; AARs run under another uid or in a sandbox.
"""

from dataclasses import replace

from aarlab.core.layout import DataRoot
from aarlab.testbed.running.panel import Bench
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import PublicTask, has_hidden_train, load_inputs, load_weak_labels
from aarlab.testbed.tasks.task_files import HIDDEN_WEAK_LABELS
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault


def open_scorer(root: DataRoot) -> Scorer:
    """Return exact scores for an operator's own tables; raises on loose modes of the vault."""
    return Scorer(Vault(root))


def selection_bench(root: DataRoot, task: PublicTask) -> Bench:
    """Return the hidden selection split and the fresh weak teachers, for an operator's final score.

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
