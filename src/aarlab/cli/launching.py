"""What the lobby may start and check: presets as text, faults of a spec by line, an estimate."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from aarlab.campaign.presets import PRESETS
from aarlab.campaign.runner import open_spec, server_argv
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput
from aarlab.core.foreign import read_yaml
from aarlab.core.layout import RunDir
from aarlab.server.lobby.commands import Checked, Commands, Fault

AARLAB = [sys.executable, "-m", "aarlab.cli"]


def commands() -> Commands:
    return Commands(
        presets={name: spec_text(make()) for name, make in PRESETS.items()},
        check=check_text,
        run=lambda spec, out: [*AARLAB, "campaign", "run", str(spec), "--out", str(out)],
        resume=resume_argv,
        serve=lambda run: server_argv(RunDir(run), data_root(), open_spec(RunDir(run)), True),
    )


def resume_argv(run: Path) -> list[str]:
    """Goes on; a campaign that was launched and never froze its spec begins with it."""
    if RunDir(run).spec.exists():
        return [*AARLAB, "campaign", "resume", str(run)]
    return [*AARLAB, "campaign", "run", str(run / "launch.yaml"), "--out", str(run)]


def spec_text(spec: CampaignSpec) -> str:
    """What differs from the defaults, as YAML, in the order of the fields."""
    said = spec.model_dump(mode="json", exclude_defaults=True)
    return yaml.safe_dump(said, sort_keys=False, allow_unicode=True, width=90)


def check_text(text: str) -> Checked:
    """Faults with their lines, else the name and what the campaign takes at most."""
    try:
        raw = read_yaml(text.encode(errors="replace"), "the spec")
    except BadInput as error:
        mark = getattr(error.__cause__, "problem_mark", None)
        return Checked((Fault(mark.line + 1 if mark else 0, str(error)),))
    node = yaml.compose(text)
    try:
        spec = parse_spec(raw, "the spec")
    except BadInput as error:
        cause = error.__cause__
        if not isinstance(cause, ValidationError):
            return Checked((Fault(0, str(error)),))
        return Checked(tuple(_fault(node, dict(one)) for one in cause.errors()))
    if unknown := [t for t in _references(spec) if not _is_built(t)]:
        line = line_of(node, ("tasks",))
        many = ", ".join(unknown)
        return Checked((Fault(line, f"task {many} is not built: aarlab task build {unknown[0]}"),))
    return Checked(name=spec.name, estimate=tuple(estimate(spec)))


def _fault(node: Any, error: dict[str, Any]) -> Fault:
    place = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return Fault(line_of(node, error["loc"]), f"{place}: {message}" if place else message)


def line_of(node: Any, place: Sequence[str | int]) -> int:
    """The line, from 1, of the deepest part of `place` that the text has; 0 for none."""
    line = 0
    for part in place:
        if isinstance(node, yaml.MappingNode):
            found = [(key, value) for key, value in node.value if key.value == str(part)]
            if not found:
                break
            key, node = found[0]
            line = key.start_mark.line + 1
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int):
            if part >= len(node.value):
                break
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _references(spec: CampaignSpec) -> list[str]:
    """Its tasks, with the version where the spec names one."""
    pinned = spec.versions
    names = (*spec.tasks, *spec.held_out)
    return [f"{name}@{pinned[name]}" if name in pinned else name for name in names]


def _is_built(task: str) -> bool:
    return (data_root().public_task(task) / "task.json").exists()


def estimate(spec: CampaignSpec) -> list[tuple[str, str]]:
    """Upper bounds out of the limits: no past campaign is looked at, so they are no forecast."""
    spec = spec.expanded()
    workers = [aar for aar in spec.aars if aar.role == "aar"]
    fixed = sum(len(aar.fixed) for aar in spec.aars)
    limits = [spec.limits_of(aar) for aar in workers]
    sent = _sum(limit.submissions for limit in limits)
    hours = _sum(limit.hours for limit in limits)
    longest = max((limit.hours for limit in limits if limit.hours is not None), default=None)
    paid = _sum(spec.limits_of(a).dollars for a in workers if a.researcher == "language")
    total = _least(paid, spec.campaign_limits.dollars)
    teams, tasks = len({(aar.arm, aar.replicate) for aar in workers}), len(spec.tasks)
    chosen = spec.verify.top * tasks * teams + fixed
    reruns = chosen * (tasks + len(spec.held_out))
    return [
        ("AARs", f"{len(workers)}, and {fixed} baselines"),
        ("submissions", _text(_plus(sent, fixed * tasks), "no limit is set")),
        ("research hours", _text(_least(hours, spec.campaign_limits.hours), "no limit is set")),
        ("time", _time(longest)),
        (
            "re-runs",
            f"{reruns} of {spec.verify.seeds} seeds, then {3 * spec.verify.ablate_top} ablations",
        ),
        ("model calls", _dollars(workers, total)),
        ("device", f"${_text(_times(hours, spec.device_dollars_per_hour), 'no limit is set')}"),
    ]


def _dollars(workers: Sequence[Any], total: float | None) -> str:
    if not any(aar.researcher == "language" for aar in workers):
        return "$0: no AAR calls a model"
    return "no limit of dollars is set" if total is None else f"${total:,.2f}"


def _time(hours: float | None) -> str:
    return "no limit of hours is set" if hours is None else f"{hours:g} hours, then the re-runs"


def _sum(given: Any) -> float | None:
    """None where one of them has no limit."""
    values = list(given)
    return None if None in values else float(sum(values))


def _least(one: float | None, other: float | None) -> float | None:
    known = [value for value in (one, other) if value is not None]
    return min(known) if known else None


def _plus(one: float | None, more: float) -> float | None:
    return None if one is None else one + more


def _times(one: float | None, rate: float) -> float | None:
    return None if one is None and rate else (one or 0.0) * rate


def _text(value: float | None, otherwise: str) -> str:
    return otherwise if value is None else f"{value:,.4g}"
