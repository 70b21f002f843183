"""Shortcut probes, label-free figures about a run, and the teacher ablation.

A probe shows whether a row's answer depends on which other rows come with it, or on its style:

    twins     some rows in another style, their content kept, in the place and under the id of
              these rows
    alone     batches with at most one row of a problem
    crowded   one row of each problem comes several times, so that its answer is the most frequent
    shuffled  all rows in another order
    renamed   each row under the id of another: an answer that was kept by id stands out

Twins come before all else. Neither their ids nor their number, order or company distinguishes them
from rows, and what they stand for has not been seen. The other probes leave the text of a row as it
is.
Covered: predictors that compare the answers of a problem, or count them, or go by style or by id.
Not covered: a predictor that knows the rows from elsewhere, or keeps to itself while it is probed;
one that remembers the rows of an earlier run of its process (its first run then stands out).

The figures of `diagnose` need no label. They explain a run; nothing is ranked by them.

The teacher ablation replaces the weak labels so that what they say about the rows is gone.

Legend: S weak teachers, N train rows.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import NotFound
from aarlab.core.types import Example
from aarlab.core.wire import Ablation
from aarlab.testbed.recipes.zero_shot import ZeroShot
from aarlab.testbed.running.contract import Predictor, checked_predictions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask
from aarlab.testbed.tasks.twins import places_of

Bools = NDArray[np.bool_]
COPIES = 2
PROBES = ("alone", "crowded", "shuffled", "renamed")


def probe_answers(predictor: Predictor, rows: Sequence[Example], seed: int) -> dict[str, Bools]:
    """Return the answers (N,) for label 1 per probe, in the order of `rows`; alone comes first."""
    rng = np.random.default_rng([seed, len(rows)])
    return {
        "alone": _alone(predictor, rows),
        "crowded": _crowded(predictor, rows, rng),
        "shuffled": _shuffled(predictor, rows, rng),
        "renamed": _renamed(predictor, rows, rng),
    }


def probe_twins(
    predictor: Predictor, rows: Sequence[Example], twins: Sequence[Example]
) -> NDArray[np.float64]:
    """Return P(label 1) of each twin (T,), asked for in one call with the rows that have none."""
    return checked_predictions(predictor, with_twins(rows, twins))[places_of(rows, twins)]


def with_twins(rows: Sequence[Example], twins: Sequence[Example]) -> list[Example]:
    """Return the rows with the twins in the places of theirs."""
    mixed = list(rows)
    for at, twin in zip(places_of(rows, twins), twins, strict=True):
        mixed[at] = twin
    return mixed


def first_asked(rows: Sequence[Example], twins: Sequence[Example]) -> list[list[Example]]:
    """Return the calls in which a predictor meets all rows and twins for the first time."""
    calls = [with_twins(rows, twins)] if twins else []
    return [*calls, *([rows[at] for at in places] for places in _rounds(rows))]


def changed_answers(probed: Mapping[str, Bools], answers_N: Bools) -> dict[str, float]:
    """Return the share of rows whose answer differs from the scored one, per probe."""
    return {name: float((found_N != answers_N).mean()) for name, found_N in probed.items()}


def _alone(predictor: Predictor, rows: Sequence[Example]) -> Bools:
    answers_N = np.zeros(len(rows), dtype=bool)
    for places in _rounds(rows):
        probs = checked_predictions(predictor, [rows[at] for at in places])
        answers_N[places] = probs > 0.5
    return answers_N


def _rounds(rows: Sequence[Example]) -> list[list[int]]:
    """Return the places of the rows in batches; the k-th row of a problem is in the k-th batch."""
    seen: defaultdict[str, int] = defaultdict(int)
    rounds: defaultdict[int, list[int]] = defaultdict(list)
    for at, row in enumerate(rows):
        rounds[seen[row.group]].append(at)
        seen[row.group] += 1
    return list(rounds.values())


def _crowded(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    problems: defaultdict[str, list[Example]] = defaultdict(list)
    for row in rows:
        problems[row.group].append(row)
    copies = []
    for problem in problems.values():
        chosen = problem[int(rng.integers(len(problem)))]
        copies += [
            replace(chosen, id=f"{chosen.id}~{number}") for number in range(COPIES * len(problem))
        ]
    crowd = [*rows, *copies]
    order = rng.permutation(len(crowd))
    probs = np.empty(len(crowd))
    probs[order] = checked_predictions(predictor, [crowd[at] for at in order])
    return np.asarray(probs[: len(rows)] > 0.5)


def _shuffled(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    order = rng.permutation(len(rows))
    probs = np.empty(len(rows))
    probs[order] = checked_predictions(predictor, [rows[at] for at in order])
    return np.asarray(probs > 0.5)


def _renamed(predictor: Predictor, rows: Sequence[Example], rng: np.random.Generator) -> Bools:
    ids = [rows[at].id for at in rng.permutation(len(rows))]
    named = [replace(row, id=other) for row, other in zip(rows, ids, strict=True)]
    return np.asarray(checked_predictions(predictor, named) > 0.5)


Floats = NDArray[np.float64]


def ablated(labels_SN: Floats, ablation: Ablation, rng: np.random.Generator) -> Floats:
    """Return weak labels under an ablation; "none" returns them as they are.

    permuted: shuffled over the rows, all teachers alike, so that class prior, confidences and how
    teachers agree are kept; noise: uniform on [0, 1], drawn for each teacher; flipped: 1 - label.
    """
    if ablation == "permuted":
        return labels_SN[:, rng.permutation(labels_SN.shape[1])]
    if ablation == "noise":
        return rng.random(labels_SN.shape)
    return 1 - labels_SN if ablation == "flipped" else labels_SN


MAX_ROWS = 400
CLIP = 1e-4


def diagnose(
    predictor: Predictor,
    task: TrainTask,
    student: StudentFactory,
    rows: Sequence[Example],
    zero_shot: bool = True,
) -> dict[str, float]:
    """Measure agreement with teacher and zero-shot model, misfit KL(w || p), confidence, swap gap.

    Teacher figures are over (at most 400) train rows, the others over evaluation rows. With
    `zero_shot` False the zero-shot model is not asked, because log-likelihoods that no task stored
    take minutes.
    """
    rows, train = rows[:MAX_ROWS], task.inputs[:MAX_ROWS]
    train_N, rows_N = checked_predictions(predictor, train), checked_predictions(predictor, rows)
    weak_N = task.weak_labels_N[: len(train)]
    of_teacher, prior = dict[str, float](), 0.5  # of a problem without weak labels
    if len(weak_N):
        agrees = _share((train_N > 0.5) == (weak_N > 0.5))
        of_teacher = {"agrees_with_teacher": agrees, "misfit": _kl(weak_N, train_N)}
        prior = float(task.weak_labels_N.mean())
    facts = {
        **of_teacher,
        "confidence": float(np.abs(2 * rows_N - 1).mean()),
        "share_of_label_1": _share(rows_N > 0.5),
    }
    if zero_shot:
        with suppress(NotFound):  # a task without log-likelihoods
            asked = ZeroShot(student.zero_shot(task.inputs), prior)
            margins_N = asked.margins(student.zero_shot(rows), "pmi")
            facts["agrees_with_zero_shot"] = _share((rows_N > 0.5) == (margins_N > 0))
    if task.kind == "preference":
        swapped = [example.swapped() for example in rows]
        facts["swap_gap"] = float(
            np.abs(rows_N + checked_predictions(predictor, swapped) - 1).mean()
        )
    return facts


def _share(hits_N: NDArray[np.bool_]) -> float:
    return float(hits_N.mean())


def _kl(weak_N: NDArray[np.float64], student_N: NDArray[np.float64]) -> float:
    w, p = np.clip(weak_N, CLIP, 1 - CLIP), np.clip(student_N, CLIP, 1 - CLIP)
    return float((w * np.log(w / p) + (1 - w) * np.log((1 - w) / (1 - p))).mean())
