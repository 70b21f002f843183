"""One control researcher: read the forum, propose, run, snapshot, submit, post; saved each step.

It is put together from its config. Its post says what was tried, where it came from and what the
score says.

A method is tried on every task, one trial each, before the next is proposed. So all tasks get the
same methods. If the budget ends in between, the last method lacks some.

Every call to the platform carries an idempotency key made of the AAR's name and the trial's number.
A step repeated after `kill -9` gets the stored answer and counts once.

A process stops at once when a newer one of the same AAR has begun (Superseded): it ends its trial
and writes nothing more, neither to the platform nor to its state.
"""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from aarlab.agents.config import AarConfig
from aarlab.agents.forum_files import sync_forum
from aarlab.agents.keeping import Keeper, PlatformKeeper
from aarlab.agents.researchers import Evolutionary, Fixed, RandomSearch
from aarlab.agents.state import AarState, Claim, Trial, load_state
from aarlab.agents.trial import TrialRunner
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, BudgetExhausted, MethodFailed
from aarlab.core.wire import NewFinding, Spend, Submission
from aarlab.testbed.tasks.task import has_zero_shot


def finding_of(trial: Trial, state: AarState, direction: str, figure: str = "PGR") -> NewFinding:
    """Return a finding that cites the submission; negative results and failures are posted too.

    `figure` is the name of the research problem's figure.
    """
    if trial.outcome == "failed" or trial.score is None:
        return NewFinding(
            kind="error",
            title=f"Failed: {trial.method}"[:200],
            text=f"{_origin(trial, direction)}\n\nIt failed: {trial.error[:4000]}",
            snapshot=trial.snapshot,
        )
    best = "a new best of mine" if trial.score.improved else "no improvement on my best"
    where = f" of {trial.task}" if trial.task else ""
    text = (
        f"{_origin(trial, direction)}\n\nResult on the search split{where}: {best} "
        f"(trial {trial.index + 1}, {len(state.done)} before it). The score is attached by the "
        f"platform; it must be beaten by {trial.score.step:.2f} {figure} to change."
    )
    return NewFinding(
        kind="result",
        title=f"{trial.method}: {best}"[:200],
        text=text,
        submission=trial.score.submission,
        snapshot=trial.snapshot,
    )


def _origin(trial: Trial, direction: str) -> str:
    start = f" Direction: {direction}." if direction else ""
    return f"Tried: {trial.method}. Origin: {trial.origin}.{start}"


PAUSE_POLL_S = 15.0


class Researcher(Protocol):
    """Chooses the next method from what this AAR tried and what the forum says."""

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        """Return the next trial, or None when there is nothing left to try."""
        ...


@dataclass(frozen=True, slots=True)
class Aar:
    """The parts of one AAR process."""

    config: AarConfig
    platform: PlatformClient
    researcher: Researcher
    runner: TrialRunner
    keeper: Keeper = field(default_factory=Keeper)


def research(aar: Aar) -> AarState:
    """Run until budget, trials or proposals end; picks up where a killed process was.

    Raises Superseded once a newer process of the AAR has begun.
    """
    life = aar.platform.open_session().life
    aar.keeper.began(life)
    claim = Claim(aar.config.home, life)
    claim.make()
    state = load_state(aar.config.state)

    def saved(new: AarState) -> AarState:
        claim.save(aar.config.state, new)
        return new

    while not state.finished:
        try:
            state = _steered(aar, state) or _one_trial(aar, state, saved)
        except BudgetExhausted as error:
            state = state.ended(str(error))
        saved(state)
    aar.keeper.keep()
    return state


def _steered(aar: Aar, state: AarState) -> AarState | None:
    """Wait between trials while paused; return the end state if the operator or budget ends it."""
    now = aar.platform.me()
    while now.wanted == "pause":
        aar.platform.wanted("pause", PAUSE_POLL_S)
        now = aar.platform.me()
    if now.wanted == "stop":
        return state.ended("stopped by the operator")
    if now.exhausted and state.pending is None:
        return state.ended(f"{now.exhausted}: the budget is exhausted")
    return None


def _one_trial(aar: Aar, state: AarState, saved: Callable[[AarState], AarState]) -> AarState:
    trial = state.pending
    if trial is None:
        # Failed trials count too; `extend` may have raised what the config says.
        most = max(aar.config.max_trials, aar.platform.me().limits.submissions or 0)
        if len(state.done) >= most:
            return state.ended(f"all {most} trials are done")
        sandbox, figure = aar.runner.sandbox(), aar.config.problem.figure
        sync_forum(aar.platform, sandbox, aar.config.forum_cursor, figure)
        trial = next_trial(aar, state)
        if trial is None:
            return state.ended("nothing left to try")
        state = saved(state.proposed(trial))
    return state.updated(_carry_out(aar, state, trial))


def next_trial(aar: Aar, state: AarState) -> Trial | None:
    """Return the last method on its next task, else a new method on the first; None without one."""
    tasks, last = list(aar.config.tasks), state.trials[-1] if state.trials else None
    if last is not None and last.task in tasks[:-1]:
        given = last.model_dump(include={"method", "origin", "recipe", "parent", "snapshot"})
        task = tasks[tasks.index(last.task) + 1]
        return Trial(index=len(state.trials), task=task, **given)
    proposed = aar.researcher.propose(state, aar.platform)
    return None if proposed is None else proposed.model_copy(update={"task": tasks[0]})


def _carry_out(aar: Aar, state: AarState, trial: Trial) -> Trial:
    """Run, snapshot, submit and post a trial.

    A method that fails is a negative result and is posted like any other.
    """
    key = f"{aar.config.name}-{trial.index:04d}"
    aar.keeper.keep()
    if trial.snapshot is None:
        snapshot = aar.platform.put_snapshot(aar.runner.snapshot_of(trial), key=f"{key}-snapshot")
        trial = trial.model_copy(update={"snapshot": snapshot.id})
    try:
        trial = _scored(aar, trial, key)
    except MethodFailed as error:
        trial = trial.model_copy(update={"outcome": "failed", "error": str(error)})
    finding = finding_of(trial, state, aar.config.direction, aar.config.problem.figure)
    aar.platform.post_finding(finding, key=f"{key}-finding")
    return trial


def _scored(aar: Aar, trial: Trial, key: str) -> Trial:
    result = aar.runner.run(trial, aar.platform.life.over)
    aar.keeper.keep()
    spend = Spend(kind="device_s", amount=result.device_s, note=trial.method[:200])
    aar.platform.spend(spend, key=f"{key}-spend")
    submission = Submission(
        task=trial.task or aar.config.task,
        method=trial.method[:200],
        snapshot=trial.snapshot,
        ids=result.output.ids,
        runs=result.output.runs,
    )
    score = aar.platform.submit(submission, key=f"{key}-submission")
    done = {"outcome": "scored", "score": score, "device_s": result.device_s}
    return trial.model_copy(update=done)


def run_control(config: AarConfig, platform: PlatformClient) -> AarState:
    """Run a control researcher to its end, from the start or from where it was."""
    runner = TrialRunner(config, sys.executable)
    keeper = PlatformKeeper(platform, config.home, again=config.again) if config.kept else Keeper()
    return research(Aar(config, platform, researcher_of(config), runner, keeper))


def researcher_of(config: AarConfig) -> Researcher:
    """Return the researcher of the config. Raises BadInput naming the researchers there are."""
    if config.researcher == "random":
        asked = _zero_shot(config)
        return RandomSearch(config.direction, config.seed, config.max_trials, asked)
    if config.researcher == "evolutionary":
        tasks, asked = tuple(config.tasks), _zero_shot(config)
        return Evolutionary(config.name, config.direction, config.seed, tasks, asked)
    if config.researcher == "fixed":
        named = (*config.methods, *config.own)
        return Fixed(named, config.recipes, len(config.tasks))
    raise BadInput(f"no researcher {config.researcher!r}; there are random, evolutionary, fixed")


def _zero_shot(config: AarConfig) -> bool:
    """Return whether every task has log-likelihoods: a recipe is tried on all of them."""
    return all(has_zero_shot(info) for info in config.infos().values())
