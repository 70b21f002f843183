"""The public side of a built task: inputs, weak labels, facts. It cannot hold a truth.

Layout of `public/<task>/` in core/layout.py. A row of inputs is {"id", "group", "prompt",
"answers"}.

Files of arrays are written whole or not at all, with the same bytes for the same content.
"""

import io
import json
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.hashing import content_hash, sha256_hex
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.core.wire import TaskInfo
from aarlab.testbed.tasks.train_task import TrainTask, leading

Floats64 = NDArray[np.float64]
ROW_FIELDS = {"id", "group", "prompt", "answers"}
NOT_CLEAR = "not clear"  # `gap` in the settings of a task without a PGR
HIDDEN_TRAIN = "train_hidden"  # in the settings: whether verified runs train on rows of their own


class WeakLabels(NamedTuple):
    """P(label 1) by each weak teacher seed for each train row."""

    ids: tuple[str, ...]
    seeds: tuple[int, ...]
    probs_SN: NDArray[np.float32]

    def of_seed(self, seed: int) -> Floats64:
        if seed not in self.seeds:
            raise NotFound(f"no weak labels of teacher seed {seed}; there are {list(self.seeds)}")
        return np.asarray(self.probs_SN[self.seeds.index(seed)], dtype=np.float64)

    def led_by(self, seed: int) -> Floats64:
        """Return the labels of every teacher (S, N): this seed's first, the others in turn.

        Without any teacher they are (0, N), whatever the seed.
        """
        if not self.seeds:
            return self.probs_SN.astype(np.float64)
        own_N, place = self.of_seed(seed), self.seeds.index(seed)
        others = np.roll(self.probs_SN.astype(np.float64), -place, axis=0)[1:]
        return np.concatenate([own_N[None], others])


@dataclass(frozen=True, slots=True)
class PublicTask:
    """An opened `public/<task>/` folder."""

    folder: Path
    info: TaskInfo
    train: tuple[Example, ...]
    search: tuple[Example, ...]
    weak_labels: WeakLabels

    def train_task(self, teacher_seed: int) -> TrainTask:
        return make_train_task(self.info, self.train, self.weak_labels.led_by(teacher_seed))


def make_train_task(
    info: TaskInfo, train: tuple[Example, ...], teacher_labels_SN: NDArray[np.floating]
) -> TrainTask:
    """Return a train task whose weak labels are those of the first teacher, if there is one.

    Raises BadInput unless each teacher has one label in [0, 1] per train row.
    """
    labels_SN = np.asarray(teacher_labels_SN, dtype=np.float64)
    teachers = len(labels_SN) > 0 or not info.problem.weak_labels
    if labels_SN.ndim != 2 or not teachers or labels_SN.shape[1] != len(train):
        raise BadInput(f"{info.name}: weak labels {labels_SN.shape} for {len(train)} train rows")
    if not ((labels_SN >= 0) & (labels_SN <= 1)).all():
        raise BadInput(f"{info.name}: weak labels must be probabilities")
    return TrainTask(
        name=info.name,
        kind=info.kind,
        inputs=train,
        weak_labels_N=leading(labels_SN),
        groups=tuple(example.group for example in train),
        split_sizes={"train": info.n_train, "search": info.n_search},
        teacher_labels_SN=labels_SN,
    )


def load_public(root: DataRoot, task: str, teacher_seed: int) -> TrainTask:
    """Load the train side of a public task with the weak labels of one teacher."""
    return open_public(root.public_task(task)).train_task(teacher_seed)


def open_public(folder: Path) -> PublicTask:
    """Open a task's public folder.

    Raises NotFound when the task was not built, Damaged when its content hash does not match.
    """
    info = load_info(folder)
    train = load_inputs(folder / "inputs" / "train.jsonl")
    search = load_inputs(folder / "inputs" / "search.jsonl")
    weak_labels = load_weak_labels(folder / "weak_labels.npz")
    if public_hash(train, search, weak_labels) != info.content_hash:
        raise Damaged(f"{folder}: does not match its content hash; build the task again")
    if weak_labels.ids != tuple(example.id for example in train):
        raise Damaged(f"{folder}: weak labels and train inputs are of other rows; build it again")
    return PublicTask(folder, info, train, search, weak_labels)


def load_info(folder: Path) -> TaskInfo:
    path = folder / "task.json"
    if not path.is_file():
        raise NotFound(
            f"no task at {folder}; `aarlab task list` shows tasks, `aarlab task build` makes one"
        )
    try:
        return TaskInfo.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise Damaged(f"{path}: not a task description ({error.error_count()} errors)") from error


def has_clear_gap(info: TaskInfo) -> bool:
    """Return whether the ceiling is clearly above the weak teacher on every ranked split."""
    return bool(info.settings.get("gap") != NOT_CLEAR)


def has_hidden_train(info: TaskInfo) -> bool:
    """Return whether verified runs train on rows that no AAR sees; old tasks have none."""
    return info.settings.get(HIDDEN_TRAIN) is True


def has_zero_shot(info: TaskInfo) -> bool:
    """Return whether methods get log-likelihoods of the answers, stored or from the model."""
    stored = all(info.settings.get(name, True) for name in ("zero_shot", "log_likelihoods"))
    return stored or model_at_hand(info) is not None


def model_at_hand(info: TaskInfo) -> str | None:
    """Return the name of the strong model if methods get it, None if they get features."""
    name = info.settings.get("student", {}).get("model")
    return None if name is None else str(name)


def load_inputs(path: Path) -> tuple[Example, ...]:
    """Load the rows of a jsonl file of inputs; raises BadInput naming file, line and reason."""
    try:
        lines = path.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise Damaged(f"{path}: cannot be read ({error}); build the task again") from error
    examples: list[Example] = []
    seen: set[str] = set()
    for number, line in enumerate(lines, start=1):
        example = _parse_row(line, f"{path} line {number}")
        if example is None:
            continue
        if example.id in seen:
            raise BadInput(f"{path} line {number}: id {example.id!r} is given twice")
        seen.add(example.id)
        examples.append(example)
    if not examples:
        raise BadInput(f"{path}: no rows")
    return tuple(examples)


def _parse_row(line: str, where: str) -> Example | None:
    """Return an example, or None for a canary line of a vault file."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError as error:
        raise BadInput(f"{where}: not JSON ({error.msg})") from error
    if isinstance(row, dict) and row.keys() == {"canary"}:
        return None
    if not isinstance(row, dict) or row.keys() != ROW_FIELDS:
        raise BadInput(f"{where}: expected exactly the fields {sorted(ROW_FIELDS)}")
    answers = row["answers"]
    texts = [
        row["id"],
        row["group"],
        row["prompt"],
        *(answers if isinstance(answers, list) else []),
    ]
    if not isinstance(answers, list) or len(answers) not in (1, 2):
        raise BadInput(f"{where}: answers must be a list of one or two texts")
    if not all(isinstance(text, str) and text for text in texts):
        raise BadInput(f"{where}: id, group, prompt and answers must be non-empty texts")
    return Example(row["id"], row["group"], row["prompt"], tuple(answers))


def input_row(example: Example) -> dict[str, object]:
    """Return the JSON row of an input, which never has a label."""
    return {
        "id": example.id,
        "group": example.group,
        "prompt": example.prompt,
        "answers": list(example.answers),
    }


def input_lines(examples: Iterable[Example]) -> str:
    return "".join(json.dumps(input_row(e), ensure_ascii=False) + "\n" for e in examples)


def load_weak_labels(path: Path) -> WeakLabels:
    """Load weak labels; raises Damaged when the file is not what `build` wrote."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            ids = tuple(str(i) for i in archive["ids"])
            seeds = tuple(int(s) for s in archive["seeds"])
            probs_SN = archive["probs_SN"]
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise Damaged(f"{path}: cannot be read ({error}); build the task again") from error
    if probs_SN.shape != (len(seeds), len(ids)):
        raise Damaged(f"{path}: {probs_SN.shape} labels for {len(seeds)} seeds, {len(ids)} rows")
    return WeakLabels(ids, seeds, probs_SN)


def public_hash(
    train: Sequence[Example], search: Sequence[Example], weak_labels: WeakLabels
) -> str:
    """Return the content hash of all that a method can depend on."""
    return content_hash(
        {
            "train": [input_row(e) for e in train],
            "search": [input_row(e) for e in search],
            "teacher_seeds": list(weak_labels.seeds),
            "weak_labels": sha256_hex(np.ascontiguousarray(weak_labels.probs_SN, "<f4").tobytes()),
        }
    )


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], mode: int = 0o644) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue(), mode)


def weak_label_arrays(labels: WeakLabels) -> dict[str, NDArray[np.generic]]:
    """Return weak labels as the arrays that `load_weak_labels` reads."""
    return {
        "ids": np.array(labels.ids),
        "seeds": np.array(labels.seeds, dtype=np.int64),
        "probs_SN": labels.probs_SN.astype(np.float32),
    }
