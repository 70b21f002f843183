"""Tune a recipe's options on the search split: the human baseline, and anyone's own (optuna).

A sweep may look only at the bench it is given, the search split's. The selection score of the
winner is taken once, by the caller, afterwards. The study is a journal file, appended trial by
trial: an interrupted sweep continues with the trials that are missing.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from optuna.trial import FrozenTrial, TrialState

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.hashing import content_hash
from aarlab.testbed.methods import method_of_recipe
from aarlab.testbed.recipes.recipe import OptionSpec, Recipe, is_active, normal, space, with_options
from aarlab.testbed.running.panel import Bench, run_panel

Sampler = Literal["random", "bayes"]
# Options that would make a method another one: a sweep of them all ends with the zero-shot score.
IDENTITY = (
    "label.source",
    "select.kind",
    "train.loss",
    "train.weighting",
    "train.order",
    "train.rounds",
    "predict.kind",
)


@dataclass(frozen=True, slots=True)
class SweepPlan:
    """What is tuned, from which recipe, how often, with how many seeds per trial."""

    name: str
    recipe: Recipe
    paths: tuple[str, ...]
    trials: int
    sampler: Sampler = "bayes"
    seeds: int = 5
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Swept:
    """The best trial's recipe and its search PGR (point), over how many finished trials."""

    recipe: Recipe
    search_pgr: float
    trials: int
    failed: int


def live_options(recipe: Recipe) -> tuple[str, ...]:
    """Return the paths of the options that have an effect in this recipe."""
    return tuple(
        path for path, spec in space().items() if is_active(getattr(recipe, spec.stage), spec.name)
    )


def own_options(recipe: Recipe) -> tuple[str, ...]:
    """Return the live options that do not change which method it is.

    They set how it learns, not what it is made of.
    """
    wanted = ("predict",) if recipe.predict.kind == "zero_shot" else ("label", "select", "train")
    return tuple(
        path
        for path in live_options(recipe)
        if path.split(".")[0] in wanted and path not in IDENTITY
    )


def sweep(
    plan: SweepPlan, bench: Bench, journal: Path, progress: Callable[[int, float], None]
) -> Swept:
    """Run the missing trials, and call `progress(number, pgr)` after each.

    The first trial is the recipe itself.

    Raises BadInput on unknown options, no trials, or a journal of another plan; Damaged when the
    journal cannot be read. Errors of the judge (a gap that is not clear) pass through.
    """
    _check(plan)
    study = _open(plan, bench, journal)
    for cut_off in study.get_trials(states=(TrialState.RUNNING,)):  # by an interruption
        study.tell(cut_off.number, state=TrialState.FAIL)
    while len(_finished(study)) < plan.trials:
        trial = study.ask()
        value = _score(_recipe_of(plan, trial), plan, bench)
        state = TrialState.COMPLETE if math.isfinite(value) else TrialState.PRUNED
        study.tell(trial, value if math.isfinite(value) else None, state=state)
        progress(trial.number, value)
    done = [t for t in _finished(study) if t.state == TrialState.COMPLETE]
    if not done:
        raise BadInput(f"sweep of {plan.name}: no trial gave a score; widen the options")
    best = max(done, key=lambda t: t.value or -math.inf)
    recipe = normal(with_options(plan.recipe, best.params))
    finished = _finished(study)
    return Swept(recipe, float(best.value or 0.0), len(finished), len(finished) - len(done))


def _check(plan: SweepPlan) -> None:
    unknown = [path for path in plan.paths if path not in space()]
    if unknown or not plan.paths:
        raise BadInput(
            f"unknown options {unknown or '(none given)'}; there are {', '.join(space())}"
        )
    if plan.trials < 1 or plan.seeds < 1:
        raise BadInput("a sweep needs at least one trial and one seed")


def _open(plan: SweepPlan, bench: Bench, journal: Path) -> optuna.Study:
    """Open the study of exactly this plan and task in the journal."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    facts = {
        "task": bench.task.info.content_hash,
        "recipe": plan.recipe.model_dump(),
        "paths": list(plan.paths),
        "seeds": [plan.seeds, plan.seed],
        "sampler": plan.sampler,
    }
    name = f"{plan.name}-{content_hash(facts)[:12]}"
    journal.parent.mkdir(parents=True, exist_ok=True)
    kinds: dict[Sampler, Callable[..., optuna.samplers.BaseSampler]] = {
        "random": optuna.samplers.RandomSampler,
        "bayes": optuna.samplers.TPESampler,
    }
    # a killed sweep leaves its lock behind; nobody holds it for seconds
    lock = JournalFileOpenLock(str(journal), grace_period=3)
    try:
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(journal), lock)),
            sampler=kinds[plan.sampler](seed=plan.seed),
            study_name=name,
            direction="maximize",
            load_if_exists=True,
        )
    except (ValueError, KeyError) as error:
        raise Damaged(
            f"{journal}: not a sweep's journal ({error}); delete it or name another"
        ) from (error)
    if not study.get_trials():
        study.sampler = kinds[plan.sampler](seed=plan.seed)
        study.enqueue_trial(_params(plan))
    else:  # a sampler that begins with the same seed again would repeat its first draws
        study.sampler = kinds[plan.sampler](seed=plan.seed + len(study.get_trials()))
    return study


def _params(plan: SweepPlan) -> dict[str, Any]:
    """Return the recipe's own values, where they lie in the range."""
    values = {}
    for path in plan.paths:
        spec = space()[path]
        value = getattr(getattr(plan.recipe, spec.stage), spec.name)
        if value is not None:
            values[path] = value
    return values


def _recipe_of(plan: SweepPlan, trial: optuna.Trial) -> Recipe:
    for path in plan.paths:
        trial._suggest(path, _distribution(space()[path]))
    return with_options(plan.recipe, trial.params)


def _distribution(spec: OptionSpec) -> BaseDistribution:
    if spec.kind == "choice":
        return CategoricalDistribution(spec.choices)
    if spec.kind == "int":
        return IntDistribution(int(spec.low), int(spec.high), log=spec.log)
    return FloatDistribution(spec.low, spec.high, log=spec.log)


def _score(recipe: Recipe, plan: SweepPlan, bench: Bench) -> float:
    """Return search PGR, or NaN where the recipe fails."""
    (row,) = run_panel([method_of_recipe(plan.name, recipe)], bench, plan.seeds)
    return row.pgr.value if row.pgr is not None else math.nan


def _finished(study: optuna.Study) -> Sequence[FrozenTrial]:
    return study.get_trials(states=(TrialState.COMPLETE, TrialState.PRUNED))
