"""Weak labels and both baselines of a task, over seeds. Runs in an operator's process only.

Legend: S seeds, N rows of a split.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import GapNotPositive
from aarlab.core.pgr import Outcomes, pgr
from aarlab.core.types import Split
from aarlab.testbed.build_options import BuildOptions
from aarlab.testbed.bundle import write_arrays
from aarlab.testbed.data import TaskData
from aarlab.testbed.features import FeatureSource
from aarlab.testbed.losses import Floats
from aarlab.testbed.student import Student, StudentFactory
from aarlab.testbed.task import WeakLabels
from aarlab.testbed.teacher import TeacherRows, draw_problems, fit_ceiling, fit_teacher

Progress = Callable[[str], None]
GAP_SPLITS: tuple[Split, ...] = ("search", "selection")


class Sources(NamedTuple):
    """The frozen models of a pair; rows seen before come from their caches."""

    weak: FeatureSource
    strong: FeatureSource


class Kept:
    """Predictions of seeds that are done, in a closed folder: an interrupted build of students that
    take an hour each goes on with the next seed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, name: str, make: Callable[[], dict[str, Floats]]) -> dict[str, Floats]:
        path = self.folder / f"{name}.npz"
        if path.is_file():
            with np.load(path, allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        made = make()
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_arrays(path, made, 0o600)
        return made


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
    data: TaskData,
    options: BuildOptions,
    sources: Sources,
    progress: Progress,
    kept: Kept | None = None,
) -> Trained:
    """Train the teachers and ceilings of every seed and let them predict; `kept` holds what an
    interrupted build had done."""
    progress("weak teachers")
    weak, temperatures = _weak(data, options, sources.weak, (progress, kept))
    if options.adapter is None:
        progress("strong states")
        own_rows: tuple[Split, ...] = ("teacher",) if options.teacher_row_ceiling else ()
        for split in ("train", *options.eval_splits, *own_rows):
            _states(data, split, sources.strong, options.strong_layer)
    progress("ceilings")
    rows: tuple[Split, ...] = ("train", *options.eval_splits)
    ceilings = _ceilings(data, options, sources.strong, rows, (progress, kept))
    labels_SN = weak["train"]
    facts = {
        "weak_label_accuracy": _accuracy(data, "train", labels_SN),
        "temperatures": temperatures,
    }
    if options.teacher_row_ceiling:
        own = _ceilings(data, options, sources.strong, ("teacher", "search"), (progress, None))
        facts["ceiling_on_teacher_rows_search"] = _accuracy(data, "search", own["search"])
    ids = tuple(example.id for example in data.splits["train"].examples)
    public, fresh = options.public_seeds, options.fresh_seeds
    return Trained(
        WeakLabels(ids, public, labels_SN[: len(public)]),
        WeakLabels(ids, fresh, labels_SN[len(public) : len(public) + len(fresh)]),
        {split: Baseline(weak[split], ceilings[split]) for split in options.eval_splits},
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


def _weak(
    data: TaskData, options: BuildOptions, source: FeatureSource, how: tuple[Progress, Kept | None]
) -> tuple[dict[Split, Floats], list[float]]:
    """P(label 1) by each weak seed on train and evaluation rows, (S, N), and temperatures."""
    splits: tuple[Split, ...] = ("train", *options.eval_splits)
    learned = data.splits["teacher"]
    groups_N = tuple(example.group for example in learned.examples)
    if options.teacher.adapter is None:
        states_NAD = _states(data, "teacher", source, options.weak_layer)
        rows = TeacherRows(states_NAD, learned.targets_N, groups_N)
        teachers = [fit_teacher(rows, options.teacher, seed) for seed in options.weak_seeds]
        states = {split: _states(data, split, source, options.weak_layer) for split in splits}
        probs = {s: np.stack([t.predict_proba(states[s]) for t in teachers]) for s in splits}
        return probs, [teacher.temperature for teacher in teachers]
    factory = StudentFactory(
        source, options.weak_layer, options.teacher.head, adapter=options.teacher.adapter
    )

    def fitted(seed: int) -> Student:
        drawn_N = draw_problems(groups_N, options.teacher.share, seed)
        examples = [learned.examples[i] for i in drawn_N]
        return fit_ceiling(factory, examples, learned.targets_N[drawn_N], seed)

    told = lambda seed: how[0](f"weak teacher, seed {seed}")  # noqa: E731
    return _predicted(data, splits, options.weak_seeds, (fitted, told), ("weak", how[1])), []


def _ceilings(
    data: TaskData,
    options: BuildOptions,
    source: FeatureSource,
    splits: tuple[Split, ...],
    how: tuple[Progress, Kept | None],
) -> dict[Split, Floats]:
    """Students trained on the truth of the first split; P(label 1) on the others, (S, N)."""
    first, *others = splits
    factory = StudentFactory(source, options.strong_layer, options.student, adapter=options.adapter)
    learned = data.splits[first]

    def fitted(seed: int) -> Student:
        return fit_ceiling(factory, learned.examples, learned.targets_N, seed)

    def told(seed: int) -> None:
        if options.adapter is not None:
            how[0](f"ceiling, seed {seed}")

    return _predicted(data, others, options.ceiling_seeds_used, (fitted, told), ("ceiling", how[1]))


def _predicted(
    data: TaskData,
    splits: Sequence[Split],
    seeds: Sequence[int],
    work: tuple[Callable[[int], Student], Callable[[int], None]],
    kept: tuple[str, Kept | None],
) -> dict[Split, Floats]:
    """P(label 1) of each seed's student on each split, (S, N)."""
    (fitted, told), (name, store) = work, kept
    probs = {split: list[Floats]() for split in splits}
    for seed in seeds:

        def made(seed: int = seed) -> dict[str, Floats]:
            told(seed)
            student = fitted(seed)
            rows = {split: data.splits[split].examples for split in splits}
            return {s: student.predict_proba(rows[s]).astype(np.float32) for s in splits}

        found = made() if store is None else store.get(f"{name}-{seed}", made)
        for split in splits:
            probs[split].append(found[split])
    return {split: np.stack(rows) for split, rows in probs.items()}


def _accuracy(data: TaskData, split: Split, probs_SN: NDArray[np.floating]) -> float:
    return float(((probs_SN > 0.5) == data.splits[split].targets_N.astype(bool)).mean())
