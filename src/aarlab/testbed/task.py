"""The public side of a built task: inputs, weak labels, facts. Nothing here can hold a truth.

Layout of `public/<task>/` in core/layout.py. A row of inputs is {"id", "group", "prompt",
"answers"}.
"""

import json
import zipfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from aarlab.core.canonical import content_hash, sha256_hex
from aarlab.core.errors import BadInput, Damaged, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example, TaskKind
from aarlab.core.wire import TaskInfo
from aarlab.testbed.answers import equality_words
from aarlab.testbed.options import AdapterOptions, HeadOptions

Floats64 = NDArray[np.float64]
ROW_FIELDS = {"id", "group", "prompt", "answers"}
NOT_CLEAR = "not clear"  # `gap` in the settings of a task without a PGR
HIDDEN_TRAIN = "train_hidden"  # in the settings: whether verified runs train on rows of their own


@dataclass(frozen=True, slots=True)
class TrainTask:
    """All that a method gets to see: there is no field for the truth.

    `teacher_labels_SN` has the labels of every weak teacher at hand, row 0 those of
    `weak_labels_N`, for methods with several teachers.
    """

    name: str
    kind: TaskKind
    inputs: tuple[Example, ...]
    weak_labels_N: Floats64
    groups: tuple[str, ...]
    split_sizes: dict[str, int]
    teacher_labels_SN: Floats64
    ask_equality: Callable[[], tuple[str, ...]] | None = None

    def same_answers(self) -> tuple[str, ...]:
        """Return a word (N,) per row, the same for rows of a group whose final answers agree.

        A verified run records that a method asked, and shows it beside the score.
        """
        ask = self.ask_equality
        return equality_words(self.inputs) if ask is None else ask()


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
        """Labels of every teacher (S, N), the one of this seed first, the others in turn."""
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
    """The first teacher's labels are the weak labels; BadInput unless each has one label in
    [0, 1] per train row."""
    labels_SN = np.asarray(teacher_labels_SN, dtype=np.float64)
    if labels_SN.ndim != 2 or len(labels_SN) == 0 or labels_SN.shape[1] != len(train):
        raise BadInput(f"{info.name}: weak labels {labels_SN.shape} for {len(train)} train rows")
    if not ((labels_SN >= 0) & (labels_SN <= 1)).all():
        raise BadInput(f"{info.name}: weak labels must be probabilities")
    return TrainTask(
        name=info.name,
        kind=info.kind,
        inputs=train,
        weak_labels_N=labels_SN[0],
        groups=tuple(example.group for example in train),
        split_sizes={"train": info.n_train, "search": info.n_search},
        teacher_labels_SN=labels_SN,
    )


def load_public(root: DataRoot, task: str, teacher_seed: int) -> TrainTask:
    """The train side of a public task with the weak labels of one teacher."""
    return open_public(root.public_task(task)).train_task(teacher_seed)


def open_public(folder: Path) -> PublicTask:
    """Raises NotFound when the task was not built, Damaged when its content hash does not match."""
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


class StudentSettings(NamedTuple):
    """Layer of the strong model and default adaptation that a task was built for."""

    layer: int
    options: HeadOptions
    adapter: AdapterOptions | None


def student_settings(info: TaskInfo) -> StudentSettings:
    """Raises Damaged where the task does not say."""
    student = info.settings.get("student")
    if not isinstance(student, dict) or not isinstance(student.get("layer"), int):
        raise Damaged(f"task {info.name}: its settings name no student; build the task again")
    adapter = student.get("adapter")
    return StudentSettings(
        student["layer"],
        HeadOptions(**student.get("head", {})),
        None if adapter is None else AdapterOptions(**adapter),
    )


def has_clear_gap(info: TaskInfo) -> bool:
    """Return whether the ceiling is clearly above the weak teacher on every ranked split."""
    return bool(info.settings.get("gap") != NOT_CLEAR)


def has_hidden_train(info: TaskInfo) -> bool:
    """Return whether verified runs train on rows that no AAR sees; tasks of old have none."""
    return info.settings.get(HIDDEN_TRAIN) is True


def model_at_hand(info: TaskInfo) -> str | None:
    """Name of the strong model where this task's methods get it, None where they get features."""
    name = info.settings.get("student", {}).get("model")
    return None if name is None else str(name)


def load_inputs(path: Path) -> tuple[Example, ...]:
    """Rows of a jsonl file of inputs; raises BadInput naming file, line and reason."""
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
            raise BadInput(f"{path} line {number}: id {example.id!r} is there twice")
        seen.add(example.id)
        examples.append(example)
    if not examples:
        raise BadInput(f"{path}: no rows")
    return tuple(examples)


def _parse_row(line: str, where: str) -> Example | None:
    """An example, or None for a canary line of a vault file."""
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
    """The JSON row of an input: never a label."""
    return {
        "id": example.id,
        "group": example.group,
        "prompt": example.prompt,
        "answers": list(example.answers),
    }


def input_lines(examples: Iterable[Example]) -> str:
    return "".join(json.dumps(input_row(e), ensure_ascii=False) + "\n" for e in examples)


def load_weak_labels(path: Path) -> WeakLabels:
    """Raises Damaged when the file is not what `build` wrote."""
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
    """Content hash of all that a method can depend on."""
    return content_hash(
        {
            "train": [input_row(e) for e in train],
            "search": [input_row(e) for e in search],
            "teacher_seeds": list(weak_labels.seeds),
            "weak_labels": sha256_hex(np.ascontiguousarray(weak_labels.probs_SN, "<f4").tobytes()),
        }
    )
