"""One AAR's life: read the forum, propose, run, snapshot, submit, post; saved between steps.

A method is tried on every task, one trial each, before the next is proposed. So all tasks get the
same methods; where the budget ends in between, the last method lacks some.

Every call to the platform carries an idempotency key made of the AAR's name and the trial's number:
a step repeated after `kill -9` gets the stored answer and counts once.
"""

import time
from dataclasses import dataclass
from typing import Protocol

from aarlab.agents.config import AarConfig
from aarlab.agents.forum_files import sync_forum
from aarlab.agents.notes import finding_of
from aarlab.agents.state import AarState, Trial, load_state, save_state
from aarlab.agents.trial import TrialRunner
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BudgetExhausted, MethodFailed
from aarlab.core.wire import Spend, Submission

PAUSE_POLL_S = 1.0


class Researcher(Protocol):
    """Chooses the next method from what this AAR tried and what the forum says."""

    def propose(self, state: AarState, platform: PlatformClient) -> Trial | None:
        """The next trial, or None when there is nothing left to try."""
        ...


@dataclass(frozen=True, slots=True)
class Aar:
    """The parts of one AAR process."""

    config: AarConfig
    platform: PlatformClient
    researcher: Researcher
    runner: TrialRunner


def research(aar: Aar) -> AarState:
    """Run until budget, trials or proposals end; picks up where a killed process was."""
    state = load_state(aar.config.state)
    aar.platform.open_session()
    while not state.finished:
        try:
            state = _steered(aar, state) or _one_trial(aar, state)
        except BudgetExhausted as error:
            state = state.ended(str(error))
        save_state(aar.config.state, state)
    return state


def _steered(aar: Aar, state: AarState) -> AarState | None:
    """Between trials: wait while paused; an end where the operator or the budget says so."""
    now = aar.platform.me()
    while now.wanted == "pause":
        time.sleep(PAUSE_POLL_S)
        now = aar.platform.me()
    if now.wanted == "stop":
        return state.ended("stopped by the operator")
    if now.exhausted and state.pending is None:
        return state.ended(f"{now.exhausted}: the budget is exhausted")
    return None


def _one_trial(aar: Aar, state: AarState) -> AarState:
    trial = state.pending
    if trial is None:
        # Failed trials count too; `extend` may have raised what the config says.
        most = max(aar.config.max_trials, aar.platform.me().limits.submissions or 0)
        if len(state.done) >= most:
            return state.ended(f"all {most} trials are done")
        sync_forum(aar.platform, aar.runner.sandbox(), aar.config.forum_cursor)
        trial = next_trial(aar, state)
        if trial is None:
            return state.ended("nothing left to try")
        state = state.proposed(trial)
        save_state(aar.config.state, state)
    return state.updated(_carry_out(aar, state, trial))


def next_trial(aar: Aar, state: AarState) -> Trial | None:
    """The last method on its next task, else a new method on the first; None without one."""
    tasks, last = list(aar.config.tasks), state.trials[-1] if state.trials else None
    if last is not None and last.task in tasks[:-1]:
        given = last.model_dump(include={"method", "origin", "recipe", "parent", "snapshot"})
        task = tasks[tasks.index(last.task) + 1]
        return Trial(index=len(state.trials), task=task, **given)
    proposed = aar.researcher.propose(state, aar.platform)
    return None if proposed is None else proposed.model_copy(update={"task": tasks[0]})


def _carry_out(aar: Aar, state: AarState, trial: Trial) -> Trial:
    """Run, snapshot, submit, post. A method that fails is a negative result, posted like any."""
    key = f"{aar.config.name}-{trial.index:04d}"
    if trial.snapshot is None:
        snapshot = aar.platform.put_snapshot(aar.runner.snapshot_of(trial), key=f"{key}-snapshot")
        trial = trial.model_copy(update={"snapshot": snapshot.id})
    try:
        trial = _scored(aar, trial, key)
    except MethodFailed as error:
        trial = trial.model_copy(update={"outcome": "failed", "error": str(error)})
    aar.platform.post_finding(finding_of(trial, state, aar.config.direction), key=f"{key}-finding")
    return trial


def _scored(aar: Aar, trial: Trial, key: str) -> Trial:
    result = aar.runner.run(trial)
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
