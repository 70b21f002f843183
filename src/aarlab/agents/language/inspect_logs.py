"""Inspect's own logs: `logs/0001.eval` per stretch of a conversation, for `inspect view`.

A copy for reading. The state of an AAR is in `loop.json`, so a missing or old log does no harm.
"""

from pathlib import Path

from inspect_ai.log import (
    EvalConfig,
    EvalDataset,
    EvalLog,
    EvalPlan,
    EvalSample,
    EvalSpec,
    EvalStats,
    write_eval_log,
)
from inspect_ai.model import ModelOutput

from aarlab.agents.language.state import LoopState
from aarlab.core.clock import now_iso


def write_log(home: Path, name: str, model: str, state: LoopState) -> Path:
    """Write the conversation of this part as one sample; replaces the log of the same part."""
    folder = home / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{state.part + 1:04d}.eval"
    spec = EvalSpec(
        eval_id=f"{name}-{state.part + 1}",
        run_id=name,
        created=now_iso(),
        task=f"aarlab/{name}",
        task_id=f"{name}-{state.part + 1}",
        dataset=EvalDataset(name=name, samples=1, sample_ids=[name]),
        model=model,
        config=EvalConfig(),
    )
    sample = EvalSample(
        id=name,
        epoch=1,
        input=state.messages[:2],
        target="",
        messages=state.messages,
        output=ModelOutput(model=model),
        metadata={"session": state.session, "turn": state.turn, "spend": state.spend},
    )
    stats = EvalStats(started_at=now_iso(), completed_at=now_iso())
    log = EvalLog(eval=spec, plan=EvalPlan(), stats=stats, samples=[sample])
    log.status = "success" if state.finished else "started"
    part = folder / f".{state.part + 1:04d}.part.eval"
    write_eval_log(log, str(part))
    part.replace(path)
    return path
