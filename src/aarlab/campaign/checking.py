"""`aarlab campaign check`: what would stop a campaign, and what it may cost. Asks no network."""

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Literal, NamedTuple

from pydantic import FiniteFloat

from aarlab.agents.directions import DIRECTIONS
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.prices import price_of
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.errors import AarlabError, GapNotPositive, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.pgr import NO_PGR
from aarlab.core.wire import Wire
from aarlab.sandbox.probe import probe
from aarlab.testbed.methods import METHODS
from aarlab.testbed.task import has_clear_gap, load_info

Gravity = Literal["error", "to do", "note"]
ASSUMED = {
    "turns of a language model in an hour": 60.0,
    "share of `context_tokens` that a turn reads": 0.5,
    "share of that read from the cache": 0.9,
    "tokens that a turn writes": 800.0,
    "share of the time that the device works": 0.5,
}


class Remark(NamedTuple):
    gravity: Gravity
    text: str


class Estimate(Wire):
    """None: no limit says so. `most` follows from the limits, `expected` from ASSUMED."""

    aars: int
    replicates: int
    most_submissions: int | None
    most_dollars: FiniteFloat | None
    most_research_hours: FiniteFloat | None
    most_wall_hours: FiniteFloat | None
    expected_dollars: FiniteFloat | None
    expected_dollars_per_hour: FiniteFloat


def remarks(
    spec: CampaignSpec, root: DataRoot, buildable: Callable[[str], bool]
) -> Iterator[Remark]:
    """`buildable` says whether `aarlab task build` knows a task of that name."""
    root = replace(root, pinned=spec.versions)
    for task in (*spec.tasks, *spec.held_out):
        yield from _task(task, root, buildable)
    for aar in spec.aars:
        yield from _aar(aar)
    for model in spec.models:
        try:
            price = price_of(model, spec.prices)
        except NotFound as error:
            yield Remark("error", str(error))
        else:
            rates = f"${price.input:g} in, ${price.output:g} out per million tokens"
            yield Remark("note", f"{model}: {rates}, {price.dated}")
    yield from _budgets(spec)
    yield from _memory(spec)
    try:
        probe("bubblewrap" if spec.isolation == "bubblewrap" else "process")
    except AarlabError as error:
        yield Remark("error", str(error))


def _task(task: str, root: DataRoot, buildable: Callable[[str], bool]) -> Iterator[Remark]:
    folders = (root.public_task(task) / "task.json", root.vault_task(task) / "truth")
    if all(path.exists() for path in folders):
        if (reason := without_pgr(root, task)) is not None:
            yield Remark("error", reason)
        return
    if task in (root.pinned or {}):
        yield Remark("to do", root.missing(task))
        return
    how = f"aarlab task build {task}" if buildable(task) else "aarlab task import"
    yield Remark("to do", f"task {task} is not in {root.path}: {how}")


def without_pgr(root: DataRoot, task: str) -> str | None:
    """Why a campaign on this task could rank nothing; None where it can."""
    try:
        info = load_info(root.public_task(task))
    except AarlabError as error:
        return str(error)
    if has_clear_gap(info):
        return None
    return (
        f"task {task}: gap: not clear. {NO_PGR}. A campaign ranks by PGR and is refused here; "
        f"aarlab method verify and aarlab testbed run --task {task} give accuracies"
    )


def refuse_without_pgr(spec: CampaignSpec, root: DataRoot) -> None:
    """Raise GapNotPositive before anything is made when a task of the campaign has no PGR."""
    for task in (*spec.tasks, *spec.held_out):
        known = (root.public_task(task) / "task.json").is_file()
        if known and (reason := without_pgr(root, task)) is not None:
            raise GapNotPositive(reason)


def _aar(aar: AarSpec) -> Iterator[Remark]:
    for method in aar.methods:
        if method not in METHODS:
            yield Remark("error", f"{aar.name}: no method {method!r} (aarlab method list)")
    if aar.researcher in ("random", "evolutionary") and aar.direction not in DIRECTIONS:
        known = ", ".join(DIRECTIONS)
        yield Remark("error", f"{aar.name}: no direction {aar.direction!r}; there are {known}")


def _budgets(spec: CampaignSpec) -> Iterator[Remark]:
    paid = [m for m in spec.models if _price_known(m, spec) and price_of(m, spec.prices).output > 0]
    capped = spec.campaign_limits.dollars is not None or all(
        spec.limits_of(aar).dollars is not None for aar in spec.aars if aar.role == "aar"
    )
    if paid and not capped:
        yield Remark("error", "paid models and no cap in dollars: set limits or campaign_limits")
    for aar in spec.aars:
        if aar.role == "aar" and not spec.limits_of(aar).model_dump(exclude_none=True):
            yield Remark("error", f"{aar.name} has no limit of any kind: it would never end")


def _memory(spec: CampaignSpec) -> Iterator[Remark]:
    here_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2**20
    if (most_mb := spec.most_memory_mb) > here_mb:
        yield Remark(
            "note", f"a trial may use {most_mb:,} MB, and this machine has {here_mb:,}: the "
            "system may end it before its limit does"
        )  # fmt: skip


def _price_known(model: str, spec: CampaignSpec) -> bool:
    try:
        price_of(model, spec.prices)
    except NotFound:
        return False
    return True


def estimate(spec: CampaignSpec) -> Estimate:
    """Raises NotFound where a model has no price."""
    team = [aar for aar in spec.aars if aar.role == "aar"]
    limits = [spec.limits_of(aar) for aar in team]
    hours = [each.hours for each in limits]
    per_hour = [_expected_per_hour(spec, aar) for aar in team]
    most = _least(_total([each.dollars for each in limits]), spec.campaign_limits.dollars)
    research = _least(_total(hours), spec.campaign_limits.hours)
    rate = sum(per_hour) / len(team) if team else 0.0
    expected = None if research is None else _least(research * rate, most)
    return Estimate(
        aars=len(spec.aars),
        replicates=len({(aar.arm, aar.replicate) for aar in team}),
        most_submissions=_whole(_total([spec.limits_of(aar).submissions for aar in spec.aars])),
        most_dollars=most,
        most_research_hours=research,
        most_wall_hours=None if None in hours else max((h for h in hours if h), default=0.0),
        expected_dollars=expected,
        expected_dollars_per_hour=rate,
    )


def _expected_per_hour(spec: CampaignSpec, aar: AarSpec) -> float:
    turns, context, cached, written, busy = ASSUMED.values()
    device = busy * spec.device_dollars_per_hour
    language = spec.language_of(aar)
    external = spec.external_of(aar)
    if external is not None and external.model is not None:
        language = LanguageSpec(model=external.model)
    if language is None:
        return device
    read = context * language.context_tokens
    call = price_of(language.model, spec.prices).dollars(
        input_tokens=0,
        output_tokens=int(written),
        cache_read_tokens=int(read * cached),
        cache_write_tokens=int(read * (1 - cached)),
    )
    return device + turns * call


def _total(amounts: list[float | None] | list[int | None]) -> float | None:
    known = [amount for amount in amounts if amount is not None]
    return None if len(known) < len(amounts) else float(sum(known))


def _least(*amounts: float | None) -> float | None:
    return min((amount for amount in amounts if amount is not None), default=None)


def _whole(amount: float | None) -> int | None:
    return None if amount is None else int(amount)
