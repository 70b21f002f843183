"""Run methods times seeds in this process, for an operator: the table of `aarlab testbed run`."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from threadpoolctl import threadpool_limits

from aarlab.core.errors import BadInput, MethodFailed, NotFound
from aarlab.core.foreign import decoded
from aarlab.core.pgr import teacher_contribution
from aarlab.core.scoring import Scoring
from aarlab.core.types import Example, Split
from aarlab.core.wire import Interval, Predictions, Run
from aarlab.testbed.methods import METHODS, Method, find_method, method_of_recipe
from aarlab.testbed.recipes.recipe import recipe_from_json
from aarlab.testbed.running.contract import Predictor, checked_predictions
from aarlab.testbed.running.controls import diagnose
from aarlab.testbed.running.job import teacher_of
from aarlab.testbed.running.kept_runs import KeptRun, KeptRuns
from aarlab.testbed.running.method_folder import load_method
from aarlab.testbed.students.features import FeatureSource
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.train import nothing
from aarlab.testbed.tasks.task import PublicTask, WeakLabels, has_zero_shot, make_train_task
from aarlab.testbed.tasks.train_task import TrainTask

Tick = Callable[[str, int], None]


@dataclass(frozen=True, slots=True)
class Bench:
    """A task, the rows to predict and who knows their labels."""

    task: PublicTask
    split: Split
    rows: tuple[Example, ...]
    weak_labels: WeakLabels
    features: FeatureSource
    judge: Scoring
    first_seed: int = 0
    shown: str = ""  # what the rows are, where they are not those of `split`
    kept: KeptRuns | None = None


class Extras(NamedTuple):
    """Optional parts of a table: label-free diagnostics, and the score on permuted labels."""

    diagnostics: bool = False
    permuted: bool = False


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One method of the table; accuracies are means over seeds and rows.

    `failed` says why a method gave no score; the figures are then missing. `pgr` and `permuted`
    are None where the gap is not clear. `diagnostics` are means over seeds.
    `teacher_contribution` is None where PGR is not clearly above 0. `n_kept` seeds were run by an
    earlier command.
    """

    method: str
    guard: bool
    n_seeds: int
    seconds: float = 0.0
    pgr: Interval | None = None
    accuracy: Interval | None = None
    permuted: Interval | None = None
    permuted_accuracy: Interval | None = None
    diagnostics: dict[str, float] = field(default_factory=dict)
    failed: str = ""
    n_kept: int = 0
    predictions: Predictions | None = field(default=None, repr=False)

    @property
    def transfer(self) -> float | None:
        return None if self.accuracy is None else self.accuracy.value

    @property
    def teacher_contribution(self) -> float | None:
        return teacher_contribution(self.pgr, self.permuted)


class _Ran(NamedTuple):
    """One seed's predictions, and what it took. `done` is None where an earlier command ran it."""

    run: Run
    seconds: float
    done: "_Done | None"


class _Done(NamedTuple):
    run: Run
    predictor: Predictor
    task: TrainTask
    student: StudentFactory


def search_bench(task: PublicTask, features: FeatureSource, judge: Scoring) -> Bench:
    return Bench(task, "search", task.search, task.weak_labels, features, judge)


def run_panel(
    methods: Sequence[Method],
    bench: Bench,
    n_seeds: int,
    tick: Tick = lambda method, seed: None,
    extras: Extras = Extras(),  # noqa: B008 (immutable)
) -> Iterator[PanelRow]:
    """Return an iterator over a row for each method, run as it is consumed.

    Seeds start at the bench's first. The i-th seed uses the i-th weak teacher, and teachers are
    reused in order if there are more seeds. A method that fails gives a row that says why. Errors
    of the judge (no baselines) pass through. Raises BadInput without methods or seeds.
    """
    if n_seeds < 1 or not methods:
        raise BadInput("a panel needs at least one method and one seed")
    return (_row(method, bench, n_seeds, tick, extras) for method in methods)


def _row(method: Method, bench: Bench, n_seeds: int, tick: Tick, extras: Extras) -> PanelRow:
    name = bench.task.info.name
    if extras.diagnostics:  # these need the students themselves
        bench = replace(bench, kept=None)
    try:
        with threadpool_limits(1):  # heads are small: threads that wait for each other cost more
            ran = _run_seeds(method, bench, n_seeds, tick)
            again = _run_seeds(method, bench, n_seeds, tick, True) if extras.permuted else []
            done = [one.done for one in ran if one.done is not None]
            facts = _diagnostics(done, bench) if extras.diagnostics else {}
    except MethodFailed as error:
        return PanelRow(method.name, method.guard, n_seeds, failed=str(error))
    predictions = _predictions(bench, ran)
    without = _predictions(bench, again) if again else None
    judge, split = bench.judge, bench.split
    clear = judge.gap(name, split).clear
    return PanelRow(
        method=method.name,
        guard=method.guard,
        n_seeds=n_seeds,
        seconds=sum(one.seconds for one in ran),
        pgr=judge.estimate(name, split, predictions) if clear else None,
        accuracy=judge.accuracy_interval(name, split, predictions),
        permuted=judge.estimate(name, split, without) if clear and without else None,
        permuted_accuracy=judge.accuracy_interval(name, split, without) if without else None,
        diagnostics=facts,
        n_kept=sum(one.done is None for one in ran),
        predictions=predictions,
    )


def predict(
    method: Method, bench: Bench, n_seeds: int, tick: Tick = lambda method, seed: None
) -> Predictions:
    """Return the method's predictions of the bench's rows, one run per seed.

    Raises MethodFailed.
    """
    return _predictions(bench, _run_seeds(method, bench, n_seeds, tick))


def _predictions(bench: Bench, ran: Sequence[_Ran]) -> Predictions:
    return Predictions([example.id for example in bench.rows], [one.run for one in ran])


def _run_seeds(
    method: Method, bench: Bench, n_seeds: int, tick: Tick, permuted: bool = False
) -> list[_Ran]:
    ran, words = list[_Ran](), f"{method.name}, permuted labels" if permuted else method.name
    for seed in range(bench.first_seed, bench.first_seed + n_seeds):
        tick(words, seed)
        known = None if bench.kept is None else bench.kept.find(method, seed, permuted)
        if known is not None:
            ran.append(_Ran(known.run, known.seconds, None))
            continue
        steps = _Steps(lambda n, seed=seed: tick(f"{words}: {n:,} steps", seed))  # type: ignore[misc]
        begun = time.perf_counter()
        done = _run(method, bench, seed, permuted, steps)
        ran.append(_Ran(done.run, time.perf_counter() - begun, done))
        if bench.kept is not None:
            bench.kept.keep(method, permuted, KeptRun(done.run, ran[-1].seconds))
    return ran


class _Steps:
    """Count the steps of training, and say the number every EACH_S seconds."""

    EACH_S = 60.0

    def __init__(self, say: Callable[[int], None]) -> None:
        self._say, self._count, self._said = say, 0, time.monotonic()

    def __call__(self) -> None:
        self._count += 1
        if (now := time.monotonic()) - self._said >= self.EACH_S:
            self._said = now
            self._say(self._count)


def _run(
    method: Method, bench: Bench, seed: int, permuted: bool, stepped: Callable[[], None] = nothing
) -> _Done:
    labels, info = bench.weak_labels, bench.task.info
    labels_SN = labels.led_by(teacher_of(seed - bench.first_seed, labels.seeds))
    if permuted:
        labels_SN = labels_SN[:, np.random.default_rng([seed, 1]).permutation(labels_SN.shape[1])]
    task = make_train_task(info, bench.task.train, labels_SN)
    student = StudentFactory.of_task(bench.features, info)
    student.between = stepped
    predictor = method.fit(task, student, seed)
    probs_N = checked_predictions(predictor, bench.rows)
    return _Done(Run(seed=seed, probs=[float(p) for p in probs_N]), predictor, task, student)


def _diagnostics(done: Sequence[_Done], bench: Bench) -> dict[str, float]:
    known = has_zero_shot(bench.task.info)
    each = [diagnose(one.predictor, one.task, one.student, bench.rows, known) for one in done]
    return {name: float(np.mean([facts[name] for facts in each])) for name in each[0]}


def methods_named(names: Sequence[str], guards: bool = False) -> list[Method]:
    """Return methods by name, folder (with method.py) or recipe file (.json).

    `all` is every built-in one. `guards` adds the guard baselines that are not named. Raises
    NotFound on an unknown name.
    """
    wanted = [n for name in names for n in (METHODS if name == "all" else [name])]
    chosen = [method_at(name) for name in dict.fromkeys(wanted)]
    extra = [m for m in METHODS.values() if guards and m.guard and m not in chosen]
    return chosen + extra


def method_at(name: str) -> Method:
    """Return one method by name, folder or recipe file."""
    path = Path(name)
    if name in METHODS or not (path.exists() or "/" in name or name.endswith(".json")):
        return find_method(name)
    if path.is_dir():
        return method_of_folder(path)
    if not path.is_file():
        raise NotFound(f"no method folder or recipe file {path}")
    return method_of_recipe(
        path.stem, recipe_from_json(decoded(path.read_bytes(), str(path)), str(path))
    )


def method_of_folder(folder: Path) -> Method:
    """Return a user's own method; whatever it raises becomes MethodFailed with its own lines."""
    own = load_method(folder)
    return Method(folder.resolve().name, own.fit, (own.module.__doc__ or "").strip())
