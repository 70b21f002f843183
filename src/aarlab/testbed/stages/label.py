"""Stage label: the soft targets of the train rows, shape (N,)."""

import numpy as np
from numpy.typing import NDArray

from aarlab.testbed.losses import expit
from aarlab.testbed.stages.channel import channel_features, fit_channel
from aarlab.testbed.stages.fitting import out_of_fold
from aarlab.testbed.stages.run import Floats64, RecipeRun, log_odds

EM_ROUNDS = 2
EM_FOLDS = 2
EM_PLACE = 100  # inner seeds of the EM rounds; self-training rounds count from 1


def label_rows(run: RecipeRun) -> Floats64:
    """Labels by the stage's source, their log-odds divided by its temperature."""
    stage = run.recipe.label
    weak_N = run.task.weak_labels_N
    if stage.source == "weak":
        labels_N = weak_N
    elif stage.source == "zero_shot":
        labels_N = expit(stage.weight * run.margins(stage.zero_shot))
    elif stage.source == "posterior":
        labels_N = expit(log_odds(weak_N) + stage.weight * run.margins(stage.zero_shot))
    elif stage.source == "blend":
        own_N = expit(run.margins(stage.zero_shot))
        labels_N = (1 - stage.share) * weak_N + stage.share * own_N
    else:
        labels_N = em_posterior(run)
    if stage.temperature == 1.0:
        return np.asarray(labels_N)
    return np.asarray(expit(log_odds(labels_N) / stage.temperature))


def em_posterior(run: RecipeRun, margins_NK: Floats64 | None = None) -> Floats64:
    """Posterior of the truth under the channel, two rounds (methods.md 28, adapted).

    The source asks the strong model with 3 templates in 2 orders; without such `margins_NK` they
    are the three zero-shot scores. The prior's log-odds are `weight` times their mean; in later
    rounds they are averaged with those of students trained on the posterior, out of fold, so that
    no row's own weak label enters its prior.
    """
    weak_N = run.task.weak_labels_N
    hard_N = weak_N > 0.5
    if margins_NK is None:
        margins_NK = run.zero_shot.all_margins(run.logp)
    features_NF = channel_features(weak_N, margins_NK)
    own_N = run.recipe.label.weight * margins_NK.mean(axis=1)
    posterior_N, all_rows = _posterior(hard_N, features_NF, own_N), np.arange(len(weak_N))
    for number in range(EM_ROUNDS):
        student_N = out_of_fold(run, all_rows, posterior_N, EM_FOLDS, EM_PLACE + number)
        posterior_N = _posterior(hard_N, features_NF, (own_N + log_odds(student_N)) / 2)
    return posterior_N


def _posterior(hard_N: NDArray[np.bool_], features_NF: Floats64, log_odds_N: Floats64) -> Floats64:
    prior_N = np.asarray(expit(log_odds_N))
    return fit_channel(hard_N, features_NF, prior_N).posterior(hard_N, features_NF, prior_N)
