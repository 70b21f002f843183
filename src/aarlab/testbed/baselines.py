"""Weak labels and both baselines of a task, over seeds. Runs in an operator's process only.

Legend: S seeds, N rows of a split.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import GapNotPositive
from aarlab.core.pgr import Outcomes, pgr
from aarlab.core.types import Split
from aarlab.testbed.build_options import BuildOptions
from aarlab.testbed.data import TaskData
from aarlab.testbed.features import FeatureSource
from aarlab.testbed.losses import Floats
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import WeakLabels
from aarlab.testbed.teacher import Teacher, TeacherRows, fit_ceiling, fit_teacher

Progress = Callable[[str], None]
GAP_SPLITS: tuple[Split, ...] = ("search", "selection")


class Sources(NamedTuple):
    """The frozen models of a pair; rows seen before come from their caches."""

    weak: FeatureSource
    strong: FeatureSource


class Baseline(NamedTuple):
    """P(label 1) by each seed, (S, N), in the row order of the split."""

    weak_SN: Floats
    ceiling_SN: Floats


class Trained(NamedTuple):
    """All that training on truth yields; `facts` are operator's figures."""

    public_labels: WeakLabels
    fresh_labels: WeakLabels
    baselines: dict[Split, Baseline]
    facts: dict[str, Any]


def train_baselines(
    data: TaskData, options: BuildOptions, sources: Sources, progress: Progress
) -> Trained:
    """Train the teachers and ceilings of every seed and let them predict."""
    progress("weak states")
    weak_splits: tuple[Split, ...] = ("teacher", "train", *options.eval_splits)
    weak = {split: _states(data, split, sources.weak, options.weak_layer) for split in weak_splits}
    progress("strong states")
    own_rows: tuple[Split, ...] = ("teacher",) if options.teacher_row_ceiling else ()
    for split in ("train", *options.eval_splits, *own_rows):
        _states(data, split, sources.strong, options.strong_layer)
    progress("weak teachers")
    teachers = _teachers(data, options, weak["teacher"])
    progress("ceilings")
    ceilings = _ceilings(data, options, sources.strong, ("train", *options.eval_splits))
    labels_SN = np.stack([teacher.predict_proba(weak["train"]) for teacher in teachers])
    facts = {
        "weak_label_accuracy": _accuracy(data, "train", labels_SN),
        "temperatures": [teacher.temperature for teacher in teachers],
    }
    if options.teacher_row_ceiling:
        own = _ceilings(data, options, sources.strong, ("teacher", "search"))
        facts["ceiling_on_teacher_rows_search"] = _accuracy(data, "search", own["search"])
    ids = tuple(example.id for example in data.splits["train"].examples)
    public, fresh = options.public_seeds, options.fresh_seeds
    return Trained(
        WeakLabels(ids, public, labels_SN[: len(public)]),
        WeakLabels(ids, fresh, labels_SN[len(public) : len(public) + len(fresh)]),
        {
            split: Baseline(
                np.stack([teacher.predict_proba(weak[split]) for teacher in teachers]),
                ceilings[split],
            )
            for split in options.eval_splits
        },
        facts,
    )


def check_gap(data: TaskData, baselines: dict[Split, Baseline]) -> None:
    """Raises GapNotPositive unless the ceiling is clearly above the teacher where AARs are scored
    and where methods are ranked."""
    for name in GAP_SPLITS:
        split = data.splits[name]
        truth_N = split.targets_N.astype(bool)
        weak_SN, ceiling_SN = ((probs > 0.5) == truth_N for probs in baselines[name])
        groups_N = tuple(example.group for example in split.examples)
        try:
            pgr(Outcomes(ceiling_SN, weak_SN, ceiling_SN, groups_N))
        except GapNotPositive as error:
            raise GapNotPositive(f"{data.name}, {name} split: {error}") from error


def _states(data: TaskData, split: Split, source: FeatureSource, layer: int) -> Floats:
    return source.states(data.splits[split].examples, layer)


def _teachers(data: TaskData, options: BuildOptions, states_NAD: Floats) -> list[Teacher]:
    split = data.splits["teacher"]
    groups_N = tuple(example.group for example in split.examples)
    rows = TeacherRows(states_NAD, split.targets_N, groups_N)
    return [fit_teacher(rows, options.teacher, seed) for seed in options.weak_seeds]


def _ceilings(
    data: TaskData, options: BuildOptions, source: FeatureSource, splits: tuple[Split, ...]
) -> dict[Split, Floats]:
    """Students trained on the truth of the first split; P(label 1) on the others, (S, N)."""
    first, *others = splits
    factory = StudentFactory(source, options.strong_layer, options.student, adapter=options.adapter)
    learned, probs = data.splits[first], {split: list[Floats]() for split in others}
    for seed in range(options.ceiling_seeds):
        student = fit_ceiling(factory, learned.examples, learned.targets_N, seed)
        for split, rows in probs.items():
            rows.append(student.predict_proba(data.splits[split].examples).astype(np.float32))
    return {split: np.stack(rows) for split, rows in probs.items()}


def _accuracy(data: TaskData, split: Split, probs_SN: NDArray[np.floating]) -> float:
    return float(((probs_SN > 0.5) == data.splits[split].targets_N.astype(bool)).mean())
