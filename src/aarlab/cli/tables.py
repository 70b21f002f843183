"""A campaign's status and estimate on the terminal."""

from typing import TYPE_CHECKING

from rich.table import Table

from aarlab.campaign.certified import Certified
from aarlab.campaign.status import AarStatus, CampaignStatus
from aarlab.cli.terminal import Console
from aarlab.core.endings import Ending
from aarlab.core.ledger import PURPOSES, tokens_of
from aarlab.core.wire_ledger import CampaignLimits, Limits, OperatorSpend

if TYPE_CHECKING:
    from aarlab.campaign.checking import Estimate
    from aarlab.campaign.spec import CampaignSpec

COLUMNS = ("AAR", "state", "done", "subm.", "hours", "tokens", "$", "$/h", "left")


def print_status(found: CampaignStatus, console: Console) -> None:
    table = Table(*COLUMNS[:2])
    for name in COLUMNS[2:-1]:
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column(COLUMNS[-1])
    for aar in found.aars:
        table.add_row(*_row(aar))
    console.print(table)
    state = "running" if found.running else found.ending.words if found.ending else "not running"
    stopped = "" if found.ending is Ending.STOPPED else ", stopped"
    wanted = {"run": "", "pause": ", paused", "stop": stopped}[found.wanted]
    if found.why:
        console.print(f"{state}: {found.why}", highlight=False, soft_wrap=True)
    hourly = "" if found.dollars_per_hour is None else f", ${found.dollars_per_hour:.2f} per hour"
    left = _left(found.left)
    console.print(
        f"{state}{wanted}: {found.hours:.2f} research hours, {found.tokens:,.0f} tokens, "
        f"${found.dollars:.2f}{hourly}{f'; left to all: {left}' if left else ''}",
        highlight=False,
    )
    for own in found.operator_spend:
        console.print(_own(own), highlight=False)
    for one in found.certify:
        console.print(_certified(one), highlight=False, markup=False, soft_wrap=True)


def _certified(one: Certified) -> str:
    about = f"certify on {one.task}: "
    if one.state == "skipped":
        return f"{about}not scored{f' ({one.method})' if one.method else ''}: {one.why}"
    cost = f", {one.seconds:,.0f} s" + (f", ${one.dollars:.4f}" if one.dollars else "")
    said = f"{about}{one.method}, {one.seeds} seeds, {one.state}"
    return said + (cost if one.seconds else "") + (f": {one.why}" if one.why else "")


def _own(spend: OperatorSpend) -> str:
    held = f", {spend.open} of them without a bill and counted at their most" if spend.open else ""
    return (
        f"operator: {PURPOSES[spend.purpose]} by {spend.model}: {spend.calls} calls{held}, "
        f"{tokens_of(spend.model_dump()):,.0f} tokens, ${spend.dollars:.4f}"
    )


def _row(aar: AarStatus) -> list[str]:
    hourly = "" if aar.dollars_per_hour is None else f"{aar.dollars_per_hour:.2f}"
    return [
        aar.name,
        aar.state,
        str(aar.done),
        str(aar.submissions),
        f"{aar.hours:.2f}" + (f" (+{aar.waiting_h:.2f} waiting)" if aar.waiting_h else ""),
        f"{aar.tokens:,.0f}",
        f"{aar.dollars:.2f}",
        hourly,
        _left(aar.left),
    ]


def _left(limits: Limits | CampaignLimits) -> str:
    return ", ".join(f"{amount:.4g} {name}" for name, amount in limits if amount is not None)


def print_estimate(spec: "CampaignSpec", found: "Estimate", console: Console) -> None:
    from aarlab.campaign.checking import ASSUMED, estimate_rows

    lines = [
        f"{spec.name}: on {', '.join(spec.tasks)}, {spec.isolation}",
        *(f"{what + ':':16}{text}" for what, text in estimate_rows(spec, found)),
    ]
    if found.expected_dollars_per_hour:
        lines.append("expected, assuming")
        lines += [f"{'':16}{what}: {value:g}" for what, value in ASSUMED.items()]
    for line in lines:
        console.print(line, soft_wrap=True)
