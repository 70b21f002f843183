"""Run one method folder inside a sandbox.

Run it as `python -m aarlab.testbed.running.run_method JOB.json OUT_DIR`.

Covered: a method that raises, exits, or returns NaN, a wrong shape or an object that is not a
predictor gives `error.json` and exit code 1. Predictions are written whole or not at all.
Not covered: what the method's code does to this process. There is no label here to take. Limits,
network and file access are set by the sandbox, and the reader of OUT_DIR trusts nothing in it.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.files import write_atomic
from aarlab.core.types import Example
from aarlab.core.wire import Run
from aarlab.testbed.running.contract import Fit, Predictor, checked_predictions
from aarlab.testbed.running.controls import (
    ablated,
    changed_answers,
    diagnose,
    probe_answers,
    probe_twins,
)
from aarlab.testbed.running.job import (
    ERROR,
    PREDICTIONS,
    Job,
    JobError,
    JobOutput,
    RunRecord,
    SeedPair,
    StyleMoved,
    read_job,
)
from aarlab.testbed.running.method_folder import guarded, load_method
from aarlab.testbed.students.features import FeatureSource, StoredFeatures
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.task import (
    PublicTask,
    WeakLabels,
    load_inputs,
    load_weak_labels,
    make_train_task,
    open_public,
)
from aarlab.testbed.tasks.train_task import TrainTask
from aarlab.testbed.tasks.twins import places_of, shift


class Inputs:
    """All that a job reads, opened once for its runs.

    With `students` a run gets those, and no features are read here.
    """

    def __init__(self, job: Job, students: Callable[[], StudentFactory] | None = None) -> None:
        self._students = students
        self.public: PublicTask = open_public(job.public)
        self.weak_labels: WeakLabels = self.public.weak_labels
        if job.weak_labels is not None:
            self.weak_labels = load_weak_labels(job.weak_labels)
        self.train: tuple[Example, ...] = self.public.train
        if job.train_inputs is not None:
            self.train = load_inputs(job.train_inputs)
        self.rows: tuple[Example, ...] = self.public.search
        if job.eval_inputs is not None:
            self.rows = load_inputs(job.eval_inputs)
        elif job.split != "search":
            raise BadInput(f"job: split {job.split} needs eval_inputs; only search is public")
        self.twins = load_inputs(job.twins) if job.twins is not None else ()
        if not {twin.id for twin in self.twins} <= {row.id for row in self.rows}:
            raise BadInput("job: restyled rows that do not belong to the rows to predict")
        if students is None:
            self.features = self._features(job)

    def _features(self, job: Job) -> FeatureSource:
        stored = sorted((job.public / "features").glob("*.npz"))
        features = StoredFeatures.open([*stored, *job.features])
        if job.model is None:
            return features
        from aarlab.testbed.models.lm import source_at_hand  # loads torch

        lower = [*sorted((job.public / "lower").glob("*.npz")), *job.lower]
        return source_at_hand(features, job.model, lower)

    def train_task(self, job: Job, pair: SeedPair) -> TrainTask:
        if self.weak_labels.ids != tuple(example.id for example in self.train):
            raise BadInput("job: the weak labels are of other rows than the train inputs")
        labels_SN = self.weak_labels.led_by(pair.teacher_seed)
        rng = np.random.default_rng([pair.seed, pair.teacher_seed])
        labels_SN = ablated(labels_SN, job.ablation, rng)
        return make_train_task(self.public.info, self.train, labels_SN)

    def student(self) -> StudentFactory:
        if self._students is not None:
            return self._students()
        return StudentFactory.of_task(self.features, self.public.info)


def run_job(
    job: Job,
    before_method: Callable[[], None] = lambda: None,
    students: Callable[[], StudentFactory] | None = None,
) -> JobOutput:
    """Run all runs of a job; raises MethodFailed, or BadInput, NotFound, Damaged for its inputs.

    `before_method` is called when all inputs are read and no line of the method has run.
    `students` makes the students of a run where they are not made here (`aarlab.students`).
    """
    started = time.perf_counter()
    inputs = Inputs(job, students)
    before_method()
    fit: Fit = load_method(job.method).fit
    _one_thread()
    done = [_run_seed(job, inputs, fit, pair) for pair in job.runs]
    return JobOutput(
        task=inputs.public.info.name,
        split=job.split,
        ablation=job.ablation,
        ids=[example.id for example in inputs.rows],
        runs=[run for run, _ in done],
        records=[record for _, record in done],
        seconds=time.perf_counter() - started,
    )


def _run_seed(job: Job, inputs: Inputs, fit: Fit, pair: SeedPair) -> tuple[Run, RunRecord]:
    task, student = inputs.train_task(job, pair), inputs.student()
    started = time.perf_counter()

    def fit_and_predict() -> tuple[Predictor, NDArray[np.float64], Probed]:
        predictor = fit(task, student, pair.seed)
        # before the scored call: what a predictor remembers of it cannot help
        probed = probe(predictor, inputs, pair.seed) if job.probe else Probed({}, None)
        return predictor, checked_predictions(predictor, inputs.rows), probed

    predictor, probs_N, probed = guarded(job.method, fit_and_predict)
    seconds, compute = time.perf_counter() - started, student.compute.as_dict()
    facts: dict[str, float] = {}
    if job.diagnostics:
        facts = guarded(job.method, lambda: diagnose(predictor, task, student, inputs.rows))
    record = RunRecord(
        seed=pair.seed,
        teacher_seed=pair.teacher_seed,
        seconds=seconds,
        compute=compute,
        diagnostics=facts,
        changed=changed_answers(probed.answers, probs_N > 0.5),
        style=_style_moved(inputs, probs_N, probed),
    )
    return Run(seed=pair.seed, probs=[float(p) for p in probs_N]), record


class Probed(NamedTuple):
    """Answers (N,) per delivery, P(label 1) of the twins (T,)."""

    answers: dict[str, NDArray[np.bool_]]
    twins_T: NDArray[np.float64] | None


def probe(predictor: Predictor, inputs: Inputs, seed: int) -> Probed:
    """Probe the predictor, with twins first, while no text of their rows has been seen."""
    twins_T = probe_twins(predictor, inputs.rows, inputs.twins) if inputs.twins else None
    return Probed(probe_answers(predictor, inputs.rows, seed), twins_T)


def _style_moved(inputs: Inputs, probs_N: NDArray[np.float64], probed: Probed) -> StyleMoved | None:
    if probed.twins_T is None:
        return None
    found = shift(probs_N[places_of(inputs.rows, inputs.twins)], probed.twins_T)
    return StyleMoved(flipped=found.flipped, moved=found.moved)


def _one_thread() -> None:
    """Give torch one thread, if the method loaded it, as several runs share the machine."""
    torch = sys.modules.get("torch")
    if torch is not None:
        torch.set_num_threads(1)


def main(
    argv: list[str],
    before_method: Callable[[], None] = lambda: None,
    students: Callable[[], StudentFactory] | None = None,
) -> int:
    if len(argv) != 2:
        sys.stderr.write("usage: python -m aarlab.testbed.running.run_method JOB.json OUT_DIR\n")
        return 2
    out = Path(argv[1])
    out.mkdir(parents=True, exist_ok=True)
    try:
        output = run_job(read_job(Path(argv[0])), before_method, students)
    except AarlabError as error:
        problem = JobError(code=error.code, message=str(error))
        write_atomic(out / ERROR, problem.model_dump_json(indent=1) + "\n")
        sys.stderr.write(f"{error}\n")
        return 1
    write_atomic(out / PREDICTIONS, output.model_dump_json() + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
