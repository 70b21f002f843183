"""What a control researcher posts: what was tried, where it came from, what the score says."""

from aarlab.agents.state import AarState, Trial
from aarlab.core.wire import NewFinding


def finding_of(trial: Trial, state: AarState, direction: str) -> NewFinding:
    """A finding that cites the submission; negative results and failures are posted too."""
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
        f"platform; it must be beaten by {trial.score.step:.2f} PGR to change."
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
