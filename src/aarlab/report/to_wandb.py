"""Writes a campaign into Weights & Biases.

The campaign is a group with a run of its own and one for each AAR. Without `online` the runs are
written to a folder and nothing is sent; `wandb sync` sends them later. Curves are over research
hours; the number of the submission and other columns can be chosen as well.

Covered: what the library would add by itself about the machine, the command, the packages and the
repository is turned off.
"""

from pathlib import Path
from typing import Any

import wandb

from aarlab.core.errors import Unreachable
from aarlab.report.tracking import Destination, Exporter, Tracked, Tracking

AXIS = "research_hours"


def send(tracking: Tracking, to: Destination) -> str:
    """Write the campaign. Raises Unreachable where W&B does not take it."""
    folder = Path(to.where)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    try:
        for one in (tracking.campaign, *tracking.aars):
            _write(one, tracking, to, folder)
    except wandb.Error as error:
        raise Unreachable(f"W&B did not take the campaign: {error}") from error
    if to.online:
        return f"project {to.project}, group {tracking.campaign.name}"
    return f"{folder / 'wandb'}; to send it: wandb sync {folder / 'wandb'}/offline-run-*"


def _write(one: Tracked, tracking: Tracking, to: Destination, folder: Path) -> None:
    run = wandb.init(
        project=to.project,
        group=tracking.campaign.name,
        job_type="campaign" if one is tracking.campaign else "aar",
        name=one.name,
        id=one.key,
        resume="allow" if to.online else None,
        mode="online" if to.online else "offline",
        dir=str(folder),
        config=dict(one.params),
        settings=_settings(),
    )
    with run:
        run.define_metric("*", step_metric=AXIS)
        for row in one.rows:
            if row.step <= run.step:  # written by an earlier call
                continue
            columns = {"submission": row.step, AXIS: row.research_hours}
            columns |= {"own_research_hours": row.own_hours, "at": row.at.timestamp()}
            run.log({**columns, **row.figures}, step=row.step)
        run.summary.update(one.totals)
        if one is tracking.campaign:
            _write_tables(run, tracking, max(len(one.rows), run.step) + 1)


def _write_tables(run: Any, tracking: Tracking, step: int) -> None:
    tables = {}
    for name, (header, *rows) in tracking.tables.items():
        if rows:
            tables[name] = wandb.Table(columns=list(header), data=[list(row) for row in rows])
    if tracking.events:
        columns = ["time", "event", "text"]
        data = [[event[name] for name in columns] for event in tracking.events]
        tables["events"] = wandb.Table(columns=columns, data=data)
    if tables:
        run.log(tables, step=step)


def _settings() -> Any:
    return wandb.Settings(
        console="off",
        silent=True,
        quiet=True,
        disable_git=True,
        disable_code=True,
        disable_job_creation=True,
        save_code=False,
        x_disable_meta=True,
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
        host="",
        program="aarlab",
    )


EXPORTER = Exporter("wandb", send, "wandb")
