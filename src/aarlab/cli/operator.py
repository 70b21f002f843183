"""Reading the vault, which only an operator's commands may do: the second way into it.

Covered: commands that show figures made from labels run as the user who owns the vault.
Not covered: a user who owns the vault can read it; AARs run under another uid or in a sandbox.
"""

from dataclasses import replace

from aarlab.core.layout import DataRoot
from aarlab.core.types import EVAL_SPLITS
from aarlab.testbed.running.panel import Bench
from aarlab.testbed.students.features import ModelSource, StoredFeatures, WithModel
from aarlab.testbed.tasks.task import PublicTask, has_hidden_train, load_inputs, load_weak_labels
from aarlab.testbed.tasks.task_files import HIDDEN_WEAK_LABELS
from aarlab.vault.scorer import Scorer
from aarlab.vault.vault import Vault
from aarlab.vault.whole_test import WholeTest


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


def whole_test_bench(root: DataRoot, task: PublicTask, model: ModelSource) -> Bench:
    """Return all rows of the test file that a task was built from, for published figures."""
    vault = root.vault_task(task.info.name)
    files = [*(task.folder / "features").glob("*.npz"), *(vault / "features").glob("*.npz")]
    hidden = [load_inputs(vault / "inputs" / f"{s}.jsonl") for s in EVAL_SPLITS if s != "search"]
    return Bench(
        task=task,
        split="search",
        rows=tuple(row for rows in (task.search, *hidden) for row in rows),
        weak_labels=task.weak_labels,
        features=WithModel(StoredFeatures.open(sorted(files)), model),
        judge=Scorer(WholeTest(root)),
        shown="whole test",
    )
