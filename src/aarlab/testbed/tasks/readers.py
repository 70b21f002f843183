"""Measure at build how far each honest reader of a task's twins follows the style.

Readers are weak teachers and ceilings (means over seeds), the zero-shot score of the kind that
follows most, and the first component of the strong model's states. Where the states distinguish the
writers of answers before all else, well-meant methods follow the writers too.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.core.wire import TaskInfo
from aarlab.testbed.methods.probes import truth_pca
from aarlab.testbed.recipes.zero_shot import ZeroShot
from aarlab.testbed.running.contract import Predictor
from aarlab.testbed.students.baselines import Trained
from aarlab.testbed.students.features import FeatureSource
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.data import TaskData
from aarlab.testbed.tasks.task import make_train_task
from aarlab.testbed.tasks.twins import TwinReference, places_of, shift


class _Rows(NamedTuple):
    train: tuple[Example, ...]
    rows: tuple[Example, ...]  # those that have a twin, in the twins' order
    twins: tuple[Example, ...]


def reference(
    data: TaskData, info: TaskInfo, trained: Trained, strong: FeatureSource, zero_shot: bool = True
) -> TwinReference:
    """Return the reference of a task with twins.

    `strong` has the features of train rows, selection and twins. Readers learn from the rows that
    verified runs train on. Without `zero_shot` no reader uses log-likelihoods.
    """
    selection = data.splits["selection"].examples
    at_T = places_of(selection, data.twins.rows)
    train = data.splits[data.train_splits[-1]].examples
    rows = _Rows(train, tuple(selection[at] for at in at_T), data.twins.rows)
    assert trained.twins is not None
    known = trained.baselines["selection"]
    readers = {
        "weak teachers": shift(known.weak_SN[:, at_T], trained.twins.weak_SN).flipped,
        "ceilings": shift(known.ceiling_SN[:, at_T], trained.twins.ceiling_SN).flipped,
        "first component": _first_component(rows, info, trained, strong),
    }
    if zero_shot:
        readers["zero-shot"] = _zero_shot(rows, trained, strong)
    return TwinReference(how=data.twins.how, rows=len(rows.twins), readers=readers)


def _zero_shot(rows: _Rows, trained: Trained, strong: FeatureSource) -> float:
    prior = float(trained.public_labels.probs_SN.mean())
    score = ZeroShot(strong.answer_logp(rows.train), prior)
    right_2TK = [score.all_margins(strong.answer_logp(some)) > 0 for some in rows[1:]]
    return float((right_2TK[0] != right_2TK[1]).mean(axis=0).max())


def _first_component(rows: _Rows, info: TaskInfo, trained: Trained, strong: FeatureSource) -> float:
    labels = trained.hidden_labels or trained.fresh_labels
    shares = []
    for seed in labels.seeds:
        task = make_train_task(info, rows.train, labels.led_by(seed))
        found = truth_pca(task, StudentFactory.of_task(strong, info), seed)
        shares.append(shift(_probs(found, rows.rows), _probs(found, rows.twins)).flipped)
    return float(np.mean(shares))


def _probs(predictor: Predictor, rows: tuple[Example, ...]) -> NDArray[np.floating]:
    return predictor.predict_proba(rows)
