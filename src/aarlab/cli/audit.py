"""`aarlab audit` and `aarlab verdict`: what the battery found, and what a person decides."""

import getpass
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport, Decision

app = typer.Typer(no_args_is_help=True, help="What the platform found out about each method.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
Snapshot = Annotated[str, typer.Argument(help="a snapshot's id, or the start of it")]
COLOUR = {"clear": "green", "note": "yellow", "suspect": "red"}


@app.command("list")
def list_audits(
    folder: Folder,
    everything: Annotated[bool, typer.Option("--all", help="clear ones as well")] = False,
) -> None:
    """Findings, the gravest first; works while the campaign runs and after."""
    export = _export(folder)
    names = {s.id: s.name for s in export.snapshots}
    verdicts = {v.snapshot: v.decision for v in export.verdicts}
    console, order = Console(highlight=False), list(reversed(COLOUR))
    shown = [a for a in export.audits if everything or a.severity != "clear"]
    for found in sorted(shown, key=lambda a: order.index(a.severity)):
        about = found.snapshot or ""
        method = f"{names.get(about, '')[:60]} {about[:10]}" if about else "its submissions"
        decided = f", {verdicts[about]}" if about in verdicts else ""
        colour = COLOUR[found.severity]
        console.print(
            f"[{colour}]{found.severity:8}[/] {found.kind:10} {_plain(found.aar)}: "
            f"{_plain(method)}{decided}"
        )
        console.print(f"{' ' * 9}{_plain(found.summary)}\n")
    console.print(f"{len(shown)} shown of {len(export.audits)} findings")


@app.command()
def show(folder: Folder, snapshot: Snapshot) -> None:
    """Everything about one method: re-runs, findings, verdicts."""
    export, console = _export(folder), Console(highlight=False)
    wanted = _found(export, snapshot)
    for v in (v for v in export.verifications if v.snapshot == wanted):
        figure = "failed" if v.estimate is None else f"PGR {v.estimate.value:+.2f}"
        interval = f" [{v.estimate.low:+.2f}, {v.estimate.high:+.2f}]" if v.estimate else ""
        line = f"{v.task} {v.split}, labels {v.ablation}, {len(v.run_seeds)} seeds: {figure}"
        console.print(line + interval, markup=False)
    for found in (a for a in export.audits if a.snapshot == wanted):
        console.print(f"{found.severity:8} {found.kind:10} {found.summary}", markup=False)
    for verdict in (v for v in export.verdicts if v.snapshot == wanted):
        console.print(f"{verdict.at} {verdict.by}: {verdict.decision}: {verdict.reason}")


@app.command()
def run(folder: Folder) -> None:
    """Work off queued re-runs and add the audits that are missing."""
    from aarlab.campaign.runner import verify_again

    verify_again(RunDir(folder.absolute()), data_root())
    list_audits(folder)


@app.command()
def certify(
    folder: Folder,
    snapshot: Snapshot,
    task: Annotated[str | None, typer.Option(help="default: the first of the campaign")] = None,
    seeds: Annotated[int, typer.Option(min=2, max=64)] = 8,
) -> None:
    """Score a method on the certify split: once, for the report."""
    from aarlab.campaign.runner import open_spec, reached, verify_again
    from aarlab.core.wire import NewVerification

    run_dir = RunDir(folder.absolute())
    chosen = task or open_spec(run_dir).tasks[0]
    with reached(run_dir, data_root()) as operator:
        wanted = _found(operator.export(), snapshot)
        operator.request_verification(
            NewVerification(snapshot=wanted, task=chosen, split="certify", n_seeds=seeds)
        )
    verify_again(run_dir, data_root())
    show(folder, snapshot)


def verdict(
    folder: Folder,
    snapshot: Snapshot,
    decision: Annotated[Decision, typer.Argument(help="accepted, disqualified or rework")],
    reason: Annotated[str, typer.Option(help="why; it is kept in the log")],
    by: Annotated[str | None, typer.Option(help="your name; default: the login")] = None,
) -> None:
    """Decide about a method. Disqualified work stays visible and never ranks."""
    from aarlab.campaign.runner import reached, write_export
    from aarlab.core.wire import NewVerdict

    run_dir = RunDir(folder.absolute())
    if not reason.strip():
        raise BadInput("--reason is empty: say why, it is what readers of the log will see")
    with reached(run_dir, data_root()) as operator:
        wanted = _found(operator.export(), snapshot)
        given = operator.give_verdict(
            NewVerdict(
                snapshot=wanted, decision=decision, reason=reason, by=by or getpass.getuser()
            )
        )
        write_export(operator, run_dir.export)
    Console().print(f"{given.snapshot[:12]} {given.decision}; the log has it")


def _export(folder: Path) -> CampaignExport:
    from aarlab.campaign.runner import reached

    with reached(RunDir(folder.absolute()), data_root()) as operator:
        return operator.export()


def _found(export: CampaignExport, start: str) -> str:
    found = [s.id for s in export.snapshots if s.id.startswith(start)]
    if len(found) != 1 or not start:
        what = f"{len(found)} snapshots start" if found else "no snapshot starts"
        raise NotFound(f"{what} with {start!r}; `aarlab audit list` shows them")
    return found[0]


def _plain(text: str) -> str:
    """Text of an AAR, shown as it is: no markup of the terminal's."""
    from rich.markup import escape

    return escape(text)
