"""Train the weak labels and both baselines of a task, over seeds.

It runs in an operator's process only.

Legend: S seeds, N rows of a split.
"""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import GapNotPositive
from aarlab.core.pgr import NO_PGR, Gap, SeedSpread, gap, seed_spread
from aarlab.core.types import Example, Split
from aarlab.testbed.recipes.zero_shot import ZeroShot
from aarlab.testbed.students.features import FeatureSource, ModelSource
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.teacher import (
    Skimmer,
    TeacherRows,
    draw_problems,
    fit_ceiling,
    fit_teacher,
)
from aarlab.testbed.students.train import Floats, sigmoid
from aarlab.testbed.tasks.data import TaskData
from aarlab.testbed.tasks.options import BuildOptions
from aarlab.testbed.tasks.task import WeakLabels, write_arrays

T = TypeVar("T")
Progress = Callable[[str], None]
Part = Split | Literal["twins"]  # rows that are predicted together
GAP_SPLITS: tuple[Split, ...] = ("search", "selection")


class Sources(NamedTuple):
    """The frozen models of a pair; rows seen before come from their caches."""

    weak: FeatureSource
    strong: FeatureSource


class _Held:
    """Frozen states that are kept as long as this source, by the very sequence of rows.

    Seeds train on the same rows, and finding a row's states costs a hash of its text.
    """

    def __init__(self, source: FeatureSource) -> None:
        self._known: dict[tuple[int, int], tuple[Sequence[Example], Floats]] = {}
        self._source = source
        self.answer_logp, self.layers = source.answer_logp, source.layers

    def states(self, examples: Sequence[Example], layer: int) -> Floats:
        place = (id(examples), layer)
        if place not in self._known:
            self._known[place] = (examples, self._source.states(examples, layer))
        return self._known[place][1]


class Kept:
    """Predictions of seeds that are done, in a closed folder.

    An interrupted build of students that take an hour each continues with the next seed.
    """

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


class _Doing(NamedTuple):
    """How arms are trained: who hears of it, what an earlier build had done, seeds at a time."""

    progress: Progress
    kept: Kept | None
    threads: int


class Baseline(NamedTuple):
    """P(label 1) by each seed, (S, N), in the row order of the split."""

    weak_SN: Floats
    ceiling_SN: Floats


class LabelFree(NamedTuple):
    """What the strong model says of rows when it is asked directly: P(label 1), (M,)."""

    ids: tuple[str, ...]
    probs_M: Floats


class Trained(NamedTuple):
    """All that training on truth yields.

    `facts` are operator's figures. `twins` are predictions of the task's twins where it has some.
    `spread` is how much plain students differ.

    Ceilings learn from the rows that scores on their split are trained on: search from train, the
    others from the hidden train rows, if there are any.
    """

    public_labels: WeakLabels
    fresh_labels: WeakLabels
    hidden_labels: WeakLabels | None  # of the hidden train rows, by the fresh teachers
    baselines: dict[Split, Baseline]
    facts: dict[str, Any]
    twins: Baseline | None
    spread: dict[Split, SeedSpread]
    label_free: dict[Split, LabelFree]


def train_baselines(
    data: TaskData,
    options: BuildOptions,
    sources: Sources,
    progress: Progress,
    kept: Kept | None = None,
    threads: int = 1,
) -> Trained:
    """Train the teachers and ceilings of every seed and let them predict.

    `kept` holds what an interrupted build had done. Heads of `threads` seeds are trained at a time.
    """
    progress("weak teachers")
    parts: tuple[Part, ...] = (*data.train_splits, *options.eval_splits)
    parts += ("twins",) if data.twins.rows else ()
    doing = _Doing(progress, kept, threads)
    weak, temperatures = _weak(data, options, sources.weak, parts, doing)
    strong = sources.strong
    if options.adapter is None:
        strong = _Held(strong)
        progress("strong states")
        own_rows: tuple[Part, ...] = ("teacher",) if options.teacher_row_ceiling else ()
        for part in (*parts, *own_rows):
            _states(data, part, strong, options.strong_layer)
    progress("ceilings")
    ceilings = dict[Part, Floats]()
    for split in data.train_splits:
        mine = tuple(part for part in parts if _ceiling_rows(data, part) == split)
        ceilings |= _ceilings(data, options, strong, (split, *mine), doing)
    facts: dict[str, Any] = {
        "weak_label_accuracy": _accuracy(data, "train", weak["train"]),
        "temperatures": temperatures,
    }
    hidden = "train_hidden" in data.splits
    if hidden:
        facts["hidden_weak_label_accuracy"] = _accuracy(data, "train_hidden", weak["train_hidden"])
    if options.teacher_row_ceiling:
        own = _ceilings(data, options, strong, ("teacher", "search"), doing._replace(kept=None))
        facts["ceiling_on_teacher_rows_search"] = _accuracy(data, "search", own["search"])
    public, fresh = options.public_seeds, options.fresh_seeds

    def labels(split: Split, seeds: tuple[int, ...]) -> WeakLabels:
        ids = tuple(example.id for example in data.splits[split].examples)
        places = [options.weak_seeds.index(seed) for seed in seeds]
        return WeakLabels(ids, seeds, weak[split][places])

    return Trained(
        labels("train", public),
        labels("train", fresh),
        labels("train_hidden", fresh) if hidden else None,
        {split: Baseline(weak[split], ceilings[split]) for split in options.eval_splits},
        facts,
        Baseline(weak["twins"], ceilings["twins"]) if data.twins.rows else None,
        _spread(data, options, strong, weak, doing),
        _label_free(data, options, strong, float(weak["train"].mean())),
    )


def without_teachers(data: TaskData) -> Trained:
    """Return what a task of a problem without weak labels has: no teacher, no ceiling."""

    def none_of(split: Split) -> WeakLabels:
        ids = tuple(example.id for example in data.splits[split].examples)
        return WeakLabels(ids, (), np.empty((0, len(ids)), np.float32))

    hidden = none_of("train_hidden") if "train_hidden" in data.splits else None
    return Trained(none_of("train"), none_of("train"), hidden, {}, {}, None, {}, {})


def label_free_rows(data: TaskData, options: BuildOptions) -> dict[Split, list[Example]]:
    """Return the rows of each evaluation split on which the label-free judge is measured.

    They are drawn without a look at labels, and are the same in any order of the rows. A sample is
    of the selection split alone.
    """
    kind, found = options.log_likelihoods, dict[Split, list[Example]]()
    if kind == "none":
        return found
    for split in ("selection",) if kind == "sample" else options.eval_splits:
        rows = sorted(data.splits[split].examples, key=lambda row: row.id)
        if kind == "sample":
            rng = np.random.default_rng([options.seed, 2])
            rows = [rows[at] for at in rng.permutation(len(rows))[: options.log_likelihood_rows]]
        found[split] = rows
    return found


def _label_free(
    data: TaskData, options: BuildOptions, strong: FeatureSource, prior: float
) -> dict[Split, LabelFree]:
    """Ask the strong model directly: P(label 1) from its log-likelihoods, see `ZeroShot`."""
    found: dict[Split, LabelFree] = {}
    for split, rows in label_free_rows(data, options).items():
        logp = strong.answer_logp(rows)
        probs_M = sigmoid(ZeroShot(logp, prior).margins(logp, "pmi").astype(np.float32))
        found[split] = LabelFree(tuple(row.id for row in rows), probs_M)
    return found


def gaps(data: TaskData, baselines: dict[Split, Baseline]) -> dict[Split, Gap]:
    """Return the gap between ceiling and weak teacher on each split in `GAP_SPLITS`.

    AARs are scored and methods are ranked on these splits. There is none without baselines.
    """
    found: dict[Split, Gap] = {}
    for name in GAP_SPLITS if baselines else ():
        split = data.splits[name]
        truth_N = split.targets_N.astype(bool)
        weak_SN, ceiling_SN = ((probs > 0.5) == truth_N for probs in baselines[name])
        found[name] = gap(weak_SN, ceiling_SN, tuple(example.group for example in split.examples))
    return found


def check_gap(task: str, found: dict[Split, Gap]) -> None:
    """Raise GapNotPositive, naming the split, unless every gap is clear."""
    for name, one in found.items():
        if not one.clear:
            raise GapNotPositive(f"{task}, {name} split: {one.said()}. {NO_PGR}")


def _ceiling_rows(data: TaskData, part: Part) -> Split | None:
    """Return the split whose truth the ceiling of this part learns, or None for one without."""
    if part in data.train_splits:
        return None
    return "train" if part == "search" else data.train_splits[-1]


def _rows(data: TaskData, part: Part) -> tuple[Example, ...]:
    return data.twins.rows if part == "twins" else data.splits[part].examples


def _states(data: TaskData, part: Part, source: FeatureSource, layer: int) -> Floats:
    return source.states(_rows(data, part), layer)


def _weak(
    data: TaskData,
    options: BuildOptions,
    source: FeatureSource,
    parts: tuple[Part, ...],
    doing: _Doing,
) -> tuple[dict[Part, Floats], list[float]]:
    """Return P(label 1) by each weak seed on the rows of each part, (S, N), and temperatures."""
    learned = data.splits["teacher"]
    groups_N = tuple(example.group for example in learned.examples)
    if options.teacher.adapter is None:
        states_of = _seen_by_teachers(data, options, source)

        def taught(seed: int) -> tuple[float, list[Floats]]:
            rows = TeacherRows(states_of("teacher", seed), learned.targets_N, groups_N)
            teacher = fit_teacher(rows, options.teacher, seed)
            probs = [teacher.predict_proba(states_of(part, seed)) for part in parts]
            return teacher.temperature, probs

        temperatures, probs_SP = zip(*_each(taught, options.weak_seeds, doing.threads), strict=True)
        of_parts = zip(*probs_SP, strict=True)
        stacked = {part: np.stack(found) for part, found in zip(parts, of_parts, strict=True)}
        return stacked, list(temperatures)
    factory = StudentFactory(
        source, options.weak_layer, options.teacher.head, adapter=options.teacher.adapter
    )

    def fitted(seed: int) -> Student:
        drawn_N = draw_problems(groups_N, options.teacher.share, seed)
        examples = [learned.examples[i] for i in drawn_N]
        return fit_ceiling(factory, examples, learned.targets_N[drawn_N], seed)

    heard = _Heard("weak teacher", doing.progress, factory)
    arm = _Arm("weak", fitted, heard)
    return _predicted(data, parts, options.weak_seeds, arm, doing), []


def _seen_by_teachers(
    data: TaskData, options: BuildOptions, source: FeatureSource
) -> Callable[[Part, int], Floats]:
    """Return a function to the states that the teacher of a seed sees of a part, (N, A, D)."""
    if options.teacher.skim is not None:
        skimmer = Skimmer(cast(ModelSource, source), options.teacher.skim)
        return lambda part, seed: skimmer.states(_rows(data, part), seed)
    known = dict[Part, Floats]()

    def same_for_all(part: Part, seed: int) -> Floats:
        if part not in known:
            known[part] = _states(data, part, source, options.weak_layer)
        return known[part]

    return same_for_all


def _ceilings(
    data: TaskData,
    options: BuildOptions,
    source: FeatureSource,
    parts: tuple[Part, ...],
    doing: _Doing,
) -> dict[Part, Floats]:
    """Train students on the truth of the first part, a split, and predict the others.

    Returns P(label 1), (S, N), for each of these.
    """
    first, *others = parts
    assert first != "twins"
    factory = StudentFactory(source, options.strong_layer, options.student, adapter=options.adapter)
    learned, name = data.splits[first], "ceiling" if first == "train" else f"ceiling-{first}"

    def fitted(seed: int) -> Student:
        return fit_ceiling(factory, learned.examples, learned.targets_N, seed)

    adapted = options.adapter is not None
    heard = _Heard(name.replace("-", " on "), doing.progress, factory) if adapted else None
    arm = _Arm(name, fitted, heard)
    return _predicted(data, others, options.ceiling_seeds_used, arm, doing)


def _spread(
    data: TaskData,
    options: BuildOptions,
    source: FeatureSource,
    weak: dict[Part, Floats],
    doing: _Doing,
) -> dict[Split, SeedSpread]:
    """Measure how much plain students differ on each split that is scored.

    Each learns the hard labels of a weak teacher of its own, as `vanilla` does, on the rows that
    scores on that split are trained on.
    """
    factory = StudentFactory(source, options.strong_layer, options.student, adapter=options.adapter)
    doing.progress("plain students")
    probs = dict[Part, Floats]()
    for split in data.train_splits:
        examples, labels_SN = data.splits[split].examples, weak[split]
        name = "plain" if split == "train" else f"plain-{split}"

        def fitted(
            seed: int,
            examples: tuple[Example, ...] = examples,
            labels_SN: Floats = labels_SN,
        ) -> Student:
            labels_N = labels_SN[options.weak_seeds.index(seed)] > 0.5
            student = factory.new(options.student.model_copy(update={"seed": seed}))
            return student.fit(examples, labels_N.astype(np.float64))

        mine = [part for part in options.eval_splits if _ceiling_rows(data, part) == split]
        shown = name.replace("plain", "plain student").replace("-", " on ")
        heard = None if options.adapter is None else _Heard(shown, doing.progress, factory)
        arm = _Arm(name, fitted, heard)
        probs |= _predicted(data, mine, options.plain_seeds_used, arm, doing)
    return {
        split: seed_spread((probs[split] > 0.5) == data.splits[split].targets_N.astype(bool))
        for split in options.eval_splits
    }


class _Heard:
    """Say how far seeds that take an hour each are: which, of how many, its steps, the time left.

    `factory` is what trains them; its `between` counts the steps.
    """

    EACH_S = 60.0  # between two lines about one seed

    def __init__(self, what: str, progress: Progress, factory: StudentFactory) -> None:
        self._what, self._progress = what, progress
        self._seed, self._steps, self._begun, self._said = "", 0, 0.0, 0.0
        self._taken = list[float]()
        factory.between = self._stepped

    def begin(self, seed: int, number: int, of: int) -> None:
        self._seed, self._steps = f"{self._what}, seed {seed}", 0
        self._begun = self._said = time.monotonic()
        left = ""
        if self._taken:
            left_s = sum(self._taken) / len(self._taken) * (of - number + 1)
            left = f", about {_shown(left_s)} left for these"
        self._progress(f"{self._seed} ({number} of {of}{left})")

    def end(self) -> None:
        self._taken.append(time.monotonic() - self._begun)

    def _stepped(self) -> None:
        self._steps += 1
        if (now := time.monotonic()) - self._said >= self.EACH_S:
            self._said = now
            self._progress(f"{self._seed}: {self._steps:,} steps, {_shown(now - self._begun)}")


def _shown(seconds: float) -> str:
    return f"{seconds / 3600:.1f} h" if seconds >= 5400 else f"{seconds / 60:.0f} min"


class _Arm(NamedTuple):
    """What trains the students of one arm. `heard` is None where that takes no time."""

    name: str
    fitted: Callable[[int], Student]
    heard: _Heard | None = None


def _predicted(
    data: TaskData, parts: Sequence[Part], seeds: Sequence[int], arm: _Arm, doing: _Doing
) -> dict[Part, Floats]:
    """Return P(label 1) of each seed's student on each part, (S, N)."""
    heard, kept = arm.heard, doing.kept

    def predicted(seed: int) -> dict[str, Floats]:
        def made() -> dict[str, Floats]:
            if heard is not None:
                heard.begin(seed, seeds.index(seed) + 1, len(seeds))
            student = arm.fitted(seed)
            rows = {part: _rows(data, part) for part in parts}
            found: dict[str, Floats] = {
                part: student.predict_proba(rows[part]).astype(np.float32) for part in parts
            }
            if heard is not None:
                heard.end()
            return found

        return made() if kept is None else kept.get(f"{arm.name}-{seed}", made)

    found = _each(predicted, seeds, 1 if heard is not None else doing.threads)
    return {part: np.stack([probs[part] for probs in found]) for part in parts}


def _each(make: Callable[[int], T], seeds: Sequence[int], threads: int) -> list[T]:
    """Return what is made of each seed, in their order, `threads` seeds at a time.

    The results are the same bits: a seed draws from a generator of its own, and while a head is
    multiplied Python lets other threads run. The first seed is made alone, and leaves in the caches
    what all seeds read.
    """
    if threads == 1:  # also where a seed takes an hour: Ctrl-C would wait for a thread
        return [make(seed) for seed in seeds]
    first = [make(seed) for seed in seeds[:1]]
    with ThreadPoolExecutor(threads) as pool:
        return first + list(pool.map(make, seeds[1:]))


def _accuracy(data: TaskData, split: Split, probs_SN: NDArray[np.floating]) -> float:
    return float(((probs_SN > 0.5) == data.splits[split].targets_N.astype(bool)).mean())
