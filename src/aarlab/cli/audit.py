"""`aarlab audit` and `aarlab verdict`: what the battery found, and what a person decides."""

import getpass
from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import RunDir
from aarlab.core.verdicts import standing_in
from aarlab.core.wire import Audit, CampaignExport, Disqualifies, NewCaseVerdict, NewVerdict

app = typer.Typer(no_args_is_help=True, help="What the platform found out about each method.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
Snapshot = Annotated[str, typer.Argument(help="a snapshot's id, or the start of it")]
Given = Literal["accepted", "disqualified", "rework", "dismissed", "confirmed"]
COLOUR = {"clear": "green", "note": "yellow", "suspect": "red"}


@app.command("list")
def list_audits(
    folder: Folder,
    everything: Annotated[bool, typer.Option("--all", help="clear ones as well")] = False,
) -> None:
    """Findings, the gravest first; works while the campaign runs and after."""
    export = _export(folder)
    names = {s.id: s.name for s in export.snapshots}
    decisions: dict[str, str] = {s: v[-1].decision for s, v in standing_in(export).items()}
    decisions |= {case.audit: case.decision for case in export.case_verdicts}
    console, order = Console(highlight=False), list(reversed(COLOUR))
    shown = [a for a in export.audits if everything or a.severity != "clear"]
    for found in sorted(shown, key=lambda a: order.index(a.severity)):
        about = found.snapshot or ""
        method = f"{names.get(about, '')[:60]} {about[:10]}" if about else _submissions(found)
        decision = decisions.get(about or found.id)
        decided = f", {decision}" if decision else ""
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
    for verdict in standing_in(export).get(wanted, []):
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
    about: Annotated[
        str,
        typer.Argument(help="a snapshot's id, a finding's on an AAR's submissions, or its start"),
    ],
    decision: Annotated[
        Given,
        typer.Argument(
            help="a snapshot: accepted, disqualified, rework; a finding: dismissed, confirmed"
        ),
    ],
    reason: Annotated[str, typer.Option(help="why; it is kept in the log")],
    by: Annotated[str | None, typer.Option(help="your name; default: the login")] = None,
    disqualify: Annotated[
        Disqualifies,
        typer.Option(help="by a confirmed finding: the AAR's methods on its task, all, nothing"),
    ] = "task",
) -> None:
    """Decide about a method, or a finding on an AAR's submissions. Disqualified work never ranks.

    The latest verdict counts. Disqualified work stays visible.
    """
    from aarlab.campaign.runner import reached, write_export

    run_dir, name = RunDir(folder.absolute()), by or getpass.getuser()
    if not reason.strip():
        raise BadInput("--reason is empty: say why, it is what readers of the log will see")
    with reached(run_dir, data_root()) as operator:
        export = operator.export()
        if decision == "confirmed" or decision == "dismissed":
            chosen: Disqualifies = disqualify if decision == "confirmed" else "nothing"
            case = _finding(export, about)
            operator.give_case_verdict(
                NewCaseVerdict(
                    audit=case, decision=decision, disqualifies=chosen, reason=reason, by=name
                )
            )
        else:
            snapshot = _found(export, about)
            operator.give_verdict(
                NewVerdict(snapshot=snapshot, decision=decision, reason=reason, by=name)
            )
        write_export(run_dir, operator, run_dir.export)
    Console().print(f"{about[:16]} {decision}; the log has it")


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


def _finding(export: CampaignExport, start: str) -> str:
    """Of those on an AAR's submissions: the others are about a snapshot."""
    found = [a.id for a in export.audits if a.snapshot is None and a.id.startswith(start)]
    if len(found) != 1 or not start:
        what = (
            f"{len(found)} findings on AARs' submissions start"
            if found
            else ("no finding on an AAR's submissions starts")
        )
        raise NotFound(f"{what} with {start!r}; `aarlab audit list --all` shows them")
    return found[0]


def _submissions(found: Audit) -> str:
    return f"its submissions{f' on {found.task}' if found.task else ''}, finding {found.id}"


def _plain(text: str) -> str:
    """Text of an AAR, shown as it is: no markup of the terminal's."""
    from rich.markup import escape

    return escape(text)
