"""The files of a built task: public root and vault root (core/layout.py).

Covered: no file holds an input together with its label. Vault folders are 700 and files 600 from
the moment they exist. Every vault file carries a canary of its own, listed in canaries.json, which
must not occur anywhere else. The public settings hold no seed from which a generator would make the
labels again.
Not covered: an AAR that guesses the generator's seed. Keep generators of live tasks out of
sandboxes, or build with a seed of your own.
"""

import json
import os
import secrets
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.files import write_atomic, write_json
from aarlab.core.problem import KEY, WEAK_TO_STRONG
from aarlab.core.types import Example, Split
from aarlab.core.wire import TaskInfo
from aarlab.testbed.students.baselines import Trained
from aarlab.testbed.students.features import Arrays
from aarlab.testbed.tasks.data import TaskData
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.task import (
    HIDDEN_TRAIN,
    NOT_CLEAR,
    input_lines,
    public_hash,
    weak_label_arrays,
    write_arrays,
)
from aarlab.testbed.tasks.twins import TwinReference

FEATURE_FILE = "{}.npz"
SplitArrays = dict[Split, Arrays]
TWIN_INPUTS, TWIN_FEATURES = "twins/inputs.jsonl", "twins/features.npz"
TWIN_LOWER, TWIN_REFERENCE = "twins/lower.npz", "twins/reference.json"
COLUMNS = "columns.jsonl"
HIDDEN_WEAK_LABELS = "hidden_weak_labels.npz"
HIDDEN_INPUTS: tuple[Split, ...] = ("teacher", "train_hidden", "selection", "certify")


def task_info(
    data: TaskData, options: BuildOptions, trained: Trained, clear_gap: bool = True
) -> TaskInfo:
    """Return the public facts: settings without seeds or figures that only an operator may know.

    They say that a gap is not clear, and whether there are hidden train rows. The figures are in
    the vault.
    """
    train, search = (data.splits[split].examples for split in ("train", "search"))
    student = options.student.model_dump(exclude={"seed"})
    settings = {
        "task": _public(without_seeds(data.settings)),
        "weak_layer": options.weak_layer,
        "student": {"layer": options.strong_layer, "head": student}
        | ({"adapter": options.adapter.model_dump()} if options.adapter else {})
        | ({"model": options.model} if options.model else {}),
        "teacher": options.teacher.model_dump(
            exclude={"head": {"seed"}} | ({"skim": True} if options.teacher.skim is None else {})
        ),
    }
    if not data.problem.weak_labels:
        del settings["weak_layer"], settings["teacher"]
    if data.problem != WEAK_TO_STRONG:
        settings |= {KEY: data.problem.model_dump(mode="json")}
    settings |= {HIDDEN_TRAIN: "train_hidden" in data.splits}
    settings |= {} if options.zero_shot else {"log_likelihoods": False}
    settings |= {} if clear_gap else {"gap": NOT_CLEAR}
    return TaskInfo(
        name=data.name,
        kind=data.kind,
        title=data.title,
        description=data.description,
        pair=options.pair,
        n_train=len(train),
        n_search=len(search),
        teacher_seeds=list(trained.public_labels.seeds),
        settings=settings,
        content_hash=public_hash(train, search, trained.public_labels),
    )


def without_seeds(value: Any) -> Any:
    """Return the settings without entries whose name has "seed" in it."""
    if isinstance(value, Mapping):
        return {k: without_seeds(v) for k, v in value.items() if "seed" not in str(k).lower()}
    return [without_seeds(item) for item in value] if isinstance(value, list | tuple) else value


def _public(value: Any) -> Any:
    """Return the settings without the number and the file of the hidden train rows."""
    if isinstance(value, Mapping):
        return {k: _public(v) for k, v in value.items() if k != "train_hidden"}
    return [_public(item) for item in value] if isinstance(value, list | tuple) else value


def write_public(
    folder: Path,
    data: TaskData,
    info: TaskInfo,
    trained: Trained,
    features: SplitArrays,
    lower: SplitArrays,
) -> None:
    """Write task.json, inputs, weak labels, features and lower states of train and search."""
    for sub in ("", "inputs", "features", "lower"):
        (folder / sub).mkdir(mode=0o755, exist_ok=True)
        (folder / sub).chmod(0o755)
    for split in ("train", "search"):
        rows = input_lines(data.splits[split].examples)
        write_atomic(folder / "inputs" / f"{split}.jsonl", rows)
        write_arrays(folder / "features" / FEATURE_FILE.format(split), features[split])
        if split in lower:
            write_arrays(folder / "lower" / FEATURE_FILE.format(split), lower[split])
    write_arrays(folder / "weak_labels.npz", weak_label_arrays(trained.public_labels))
    write_json(folder / "task.json", info.model_dump(mode="json"))


class VaultWriter:
    """Write files of mode 600, each with a canary of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.canaries = folder, dict[str, str]()
        for sub in ("", "truth", "inputs", "features", "lower", "twins"):
            (folder / sub).mkdir(mode=0o700, exist_ok=True)
            (folder / sub).chmod(0o700)

    def lines(self, name: str, text: str) -> None:
        canary = json.dumps({"canary": self._canary(name)})
        write_atomic(self.folder / name, f"{text}{canary}\n", 0o600)

    def arrays(self, name: str, arrays: Mapping[str, NDArray[np.generic]]) -> None:
        canary = np.array(self._canary(name).encode())  # bytes: found by a search through the file
        write_arrays(self.folder / name, {**arrays, "canary": canary}, 0o600)

    def json(self, name: str, value: dict[str, Any]) -> None:
        write_json(self.folder / name, {**value, "canary": self._canary(name)}, 0o600)

    def close(self) -> None:
        write_json(self.folder / "canaries.json", self.canaries, 0o600)

    def _canary(self, name: str) -> str:
        self.canaries[name] = f"canary-{secrets.token_hex(16)}"
        return self.canaries[name]


def write_vault(
    writer: VaultWriter,
    data: TaskData,
    trained: Trained,
    features: SplitArrays,
    lower: SplitArrays,
) -> None:
    """Write the vault side of a task.

    It holds the truth of every split, hidden inputs, fresh weak labels, baselines, and features and
    lower states of the hidden rows.
    """
    hidden = [split for split in HIDDEN_INPUTS if split in data.splits]
    for split in data.names:
        labelled = data.splits[split]
        writer.lines(f"truth/{split}.jsonl", truth_lines(labelled.examples, labelled.targets_N))
    for split in hidden:
        writer.lines(f"inputs/{split}.jsonl", input_lines(data.splits[split].examples))
    writer.arrays("weak_labels.npz", weak_label_arrays(trained.fresh_labels))
    if trained.hidden_labels is not None:
        writer.arrays(HIDDEN_WEAK_LABELS, weak_label_arrays(trained.hidden_labels))
    writer.arrays("baselines.npz", _baseline_arrays(data, trained))
    for split in hidden:
        for name, arrays in (("features", features), ("lower", lower)):
            if split in arrays:
                writer.arrays(f"{name}/{FEATURE_FILE.format(split)}", arrays[split])


def write_twins(
    writer: VaultWriter,
    twins: Sequence[Example],
    features: Arrays,
    lower: Arrays | None,
    known: TwinReference,
) -> None:
    """Write twins with their features and lower states; their truth is that of their rows."""
    writer.lines(TWIN_INPUTS, input_lines(twins))
    writer.arrays(TWIN_FEATURES, features)
    if lower is not None:
        writer.arrays(TWIN_LOWER, lower)
    writer.json(TWIN_REFERENCE, known.model_dump(mode="json"))


def truth_lines(examples: Sequence[Example], targets_N: NDArray[np.int8]) -> str:
    return "".join(
        json.dumps({"id": example.id, "label": int(target)}) + "\n"
        for example, target in zip(examples, targets_N, strict=True)
    )


def column_lines(columns: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the source's columns as JSON lines. Keep them hidden: they may reveal the label."""
    return "".join(
        json.dumps({"id": row, "columns": dict(values)}, ensure_ascii=False) + "\n"
        for row, values in columns.items()
    )


def _baseline_arrays(data: TaskData, trained: Trained) -> dict[str, NDArray[np.generic]]:
    arrays: dict[str, NDArray[np.generic]] = {}
    for split, baseline in trained.baselines.items():
        arrays[f"ids_{split}"] = np.array([e.id for e in data.splits[split].examples])
        arrays[f"weak_{split}"] = baseline.weak_SN
        arrays[f"ceiling_{split}"] = baseline.ceiling_SN
        arrays[f"plain_variance_{split}"] = np.array(trained.spread[split].variance)
        arrays[f"plain_seeds_{split}"] = np.array(trained.spread[split].n_seeds)
    for split, judged in trained.label_free.items():
        arrays[f"label_free_ids_{split}"] = np.array(judged.ids)
        arrays[f"label_free_{split}"] = judged.probs_M
    return arrays


def files_under(folder: Path) -> list[str]:
    """Return the relative paths of all files, sorted."""
    return sorted(
        os.path.relpath(os.path.join(place, name), folder)
        for place, _, names in os.walk(folder)
        for name in names
    )
