"""Methods times seeds in this process, for an operator: the table of `aarlab testbed run`."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from threadpoolctl import threadpool_limits

from aarlab.core.errors import BadInput
from aarlab.core.types import Example, Split
from aarlab.core.wire import BaselineAccuracy, Interval, Predictions, Run
from aarlab.testbed.contract import checked_predictions
from aarlab.testbed.features import FeatureSource
from aarlab.testbed.methods import METHODS, Method, find_method
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import PublicTask, WeakLabels, make_train_task, student_settings


class Judge(Protocol):
    """What the panel needs of the vault's scorer, which it may not import."""

    def estimate(self, task: str, split: Split, predictions: Predictions) -> Interval: ...

    def accuracy(self, task: str, split: Split, predictions: Predictions) -> float: ...

    def baselines(self, task: str, split: Split) -> BaselineAccuracy: ...


@dataclass(frozen=True, slots=True)
class Bench:
    """A task, the rows to predict and who knows their labels."""

    task: PublicTask
    split: Split
    rows: tuple[Example, ...]
    weak_labels: WeakLabels
    features: FeatureSource
    judge: Judge


@dataclass(frozen=True, slots=True)
class PanelRow:
    """One method of the table; accuracies are means over seeds and rows."""

    method: str
    guard: bool
    pgr: Interval
    transfer: float
    weak: float
    ceiling: float
    n_rows: int
    n_seeds: int
    seconds: float


def search_bench(task: PublicTask, features: FeatureSource, judge: Judge) -> Bench:
    return Bench(task, "search", task.search, task.weak_labels, features, judge)


def run_panel(
    methods: Sequence[Method],
    bench: Bench,
    n_seeds: int,
    tick: Callable[[str, int], None] = lambda method, seed: None,
) -> list[PanelRow]:
    """Each method on seeds 0.., seed i with the i-th weak teacher; errors as the judge and methods.

    With more seeds than teachers, teachers come round again.
    """
    if n_seeds < 1 or not methods:
        raise BadInput("a panel needs at least one method and one seed")
    with threadpool_limits(1):  # heads are small: threads that wait for each other cost more
        return [_row(method, bench, n_seeds, tick) for method in methods]


def methods_named(names: Sequence[str], guards: bool = False) -> list[Method]:
    """Raises NotFound on an unknown name; `guards` adds the guard baselines not named."""
    chosen = [find_method(name) for name in dict.fromkeys(names)]
    extra = [m for m in METHODS.values() if guards and m.guard and m not in chosen]
    return chosen + extra


def _row(method: Method, bench: Bench, n_seeds: int, tick: Callable[[str, int], None]) -> PanelRow:
    started = time.perf_counter()
    predictions = predict(method, bench, n_seeds, tick)
    name, judge = bench.task.info.name, bench.judge
    seconds = time.perf_counter() - started
    base = judge.baselines(name, bench.split)
    return PanelRow(
        method=method.name,
        guard=method.guard,
        pgr=judge.estimate(name, bench.split, predictions),
        transfer=judge.accuracy(name, bench.split, predictions),
        weak=base.weak,
        ceiling=base.ceiling,
        n_rows=base.n_rows,
        n_seeds=n_seeds,
        seconds=seconds,
    )


def predict(
    method: Method,
    bench: Bench,
    n_seeds: int,
    tick: Callable[[str, int], None] = lambda method, seed: None,
) -> Predictions:
    """The method's predictions of the bench's rows, one run a seed."""
    runs = []
    for seed in range(n_seeds):
        tick(method.name, seed)
        runs.append(_run(method, bench, seed))
    return Predictions([example.id for example in bench.rows], runs)


def _run(method: Method, bench: Bench, seed: int) -> Run:
    labels = bench.weak_labels
    teacher = labels.seeds[seed % len(labels.seeds)]
    info = bench.task.info
    task = make_train_task(info, bench.task.train, labels.led_by(teacher))
    layer, options = student_settings(info)
    student = StudentFactory(bench.features, layer, options)
    probs_N = checked_predictions(method.fit(task, student, seed), bench.rows)
    return Run(seed=seed, probs=[float(p) for p in probs_N])
