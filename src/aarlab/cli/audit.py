"""`aarlab audit` and `aarlab verdict`: what the battery found, and what a person decides."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aarlab.cli.ending import when_interrupted
from aarlab.cli.printing import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import RunDir
from aarlab.core.showing import interval, one_line

if TYPE_CHECKING:
    from aarlab.core.wire import Audit, CampaignExport, Verification

app = typer.Typer(no_args_is_help=True, help="What the platform found out about each method.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
Snapshot = Annotated[str, typer.Argument(help="a snapshot's id, or the start of it")]
Disqualifies = Literal["nothing", "task", "all"]  # as core.wire has it
Given = Literal["accepted", "disqualified", "rework", "dismissed", "confirmed"]
COLOUR = {"clear": "green", "note": "yellow", "suspect": "red"}


@app.command("list")
def list_audits(
    folder: Folder,
    everything: Annotated[bool, typer.Option("--all", help="clear ones as well")] = False,
    as_json: AsJson = False,
) -> None:
    """Findings, the gravest first, methods in the order of the leaderboard; works while the
    campaign runs and after."""
    from aarlab.core.verdicts import standing_in

    export = _export(folder)
    names, order = _ranked(export)
    decisions: dict[str, str] = {s: v[-1].decision for s, v in standing_in(export).items()}
    decisions |= {case.audit: case.decision for case in export.case_verdicts}
    console, gravity = Console(highlight=False), list(reversed(COLOUR))
    shown = [a for a in export.audits if everything or a.severity != "clear"]
    shown.sort(key=lambda a: (gravity.index(a.severity), order.get(a.snapshot or "", len(order))))
    runs = {about: _run_of(export, *about) for about in {(a.snapshot, a.task) for a in shown}}
    if as_json:
        rows = [
            {
                **a.model_dump(),
                "decision": decisions.get(a.snapshot or a.id),
                **_given_json(runs[a.snapshot, a.task]),
            }
            for a in shown
        ]
        print_json(rows)
        return
    for found in shown:
        about = found.snapshot or ""
        method = f"{names.get(about, '')} {about[:10]}" if about else _submissions(found)
        decision = decisions.get(about or found.id)
        decided = f", {decision}" if decision else ""
        console.print(f"{found.severity:8}", style=COLOUR[found.severity], end="")
        run = runs[found.snapshot, found.task]
        was = f", {run.delivery}" if run else ""
        console.print(f" {found.kind:11} {found.aar}: {one_line(method)}{was}{decided}")
        console.print(f"{' ' * 9}{one_line(found.summary)}\n")
    console.print(f"{len(shown)} shown of {len(export.audits)} findings")


def _run_of(
    export: "CampaignExport", snapshot: str | None, task: str | None
) -> "Verification | None":
    """Return the first finished run that a finding is about; of any task where it names none.

    An open run goes before a blind one.
    """
    found = [
        v
        for v in export.verifications
        if v.snapshot == snapshot
        and task in (None, v.task)
        and (v.state, v.split, v.ablation) == ("done", "selection", "none")
    ]
    return min(found, key=lambda v: v.delivery != "open", default=None)


def _given_json(run: "Verification | None") -> dict[str, Any]:
    from aarlab.core.delivery import stamps, why_open

    if run is None:
        return {"delivery": None, "open_because": None, "train_rows": None, "stamps": []}
    return {
        "delivery": run.delivery,
        "open_because": why_open(run) or None,
        "train_rows": run.train_rows,
        "stamps": list(stamps(run)),
    }


def _ranked(export: "CampaignExport") -> tuple[Mapping[str, str], dict[str, int]]:
    """Return short names and leaderboard places (from 0) by snapshot, for the first task."""
    from aarlab.core.headline import first_task, standings_of

    found = standings_of(export, first_task(export) or "")
    return found.names, {line.run.snapshot: place for place, line in enumerate(found.board)}


@app.command()
def show(folder: Folder, snapshot: Snapshot, as_json: AsJson = False) -> None:
    """Everything about one method: re-runs and what they were given, findings, verdicts."""
    from aarlab.core.delivery import given, probes
    from aarlab.core.verdicts import standing_in

    export, console = _export(folder), Console(highlight=False)
    wanted = _found(export, snapshot)
    made = next(s for s in export.snapshots if s.id == wanted)
    verifications = [v for v in export.verifications if v.snapshot == wanted]
    audits = [a for a in export.audits if a.snapshot == wanted]
    verdicts = standing_in(export).get(wanted, [])
    short = _ranked(export)[0][wanted]
    if as_json:
        print_json(
            {
                "snapshot": wanted,
                "method": short,
                "name": made.name,
                **_given_json(_run_of(export, wanted, None)),
                "verifications": [one.model_dump() for one in verifications],
                "audits": [one.model_dump() for one in audits],
                "verdicts": [one.model_dump() for one in verdicts],
            }
        )
        return
    console.print(f"{short}: {one_line(made.name)}")
    told = ""
    for v in verifications:
        figure = "failed" if v.estimate is None else f"PGR {interval(v.estimate)}"
        failed = f": {one_line(v.error)}" if v.state == "failed" and v.error else ""
        line = f"{v.task} {v.split}, labels {v.ablation}, {len(v.run_seeds)} seeds: {figure}"
        console.print(line + failed)
        if v.state == "done" and given(v) != told:
            told = given(v)
            console.print(f"  given: {told}")
        if said := probes(v.evidence):
            console.print(f"  {said}")
    for found in audits:
        console.print(f"{found.severity:8} {found.kind:11} {one_line(found.summary)}")
    for verdict in verdicts:
        said = f"{verdict.by}: {verdict.decision}: {verdict.reason}"
        console.print(f"{verdict.at} {one_line(said)}")


@app.command()
def run(folder: Folder, as_json: AsJson = False) -> None:
    """Work off queued re-runs and add the audits that are missing."""
    from aarlab.campaign.runner import verify_again

    with when_interrupted(f"What is queued stays queued; to resume: aarlab audit run {folder}"):
        verify_again(RunDir(folder.absolute()), data_root())
    list_audits(folder, as_json=as_json)


@app.command()
def certify(
    folder: Folder,
    snapshot: Snapshot,
    task: Annotated[str | None, typer.Option(help="default: the first of the campaign")] = None,
    seeds: Annotated[int, typer.Option(min=2, max=64)] = 8,
    as_json: AsJson = False,
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
    with when_interrupted(f"The request stays queued; to resume: aarlab audit run {folder}"):
        verify_again(run_dir, data_root())
    show(folder, snapshot, as_json)


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
    from aarlab.core.wire import NewCaseVerdict, NewVerdict

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


def _export(folder: Path) -> "CampaignExport":
    from aarlab.campaign.runner import reached

    with reached(RunDir(folder.absolute()), data_root()) as operator:
        return operator.export()


def _found(export: "CampaignExport", start: str) -> str:
    found = [s.id for s in export.snapshots if s.id.startswith(start)]
    if len(found) != 1 or not start:
        what = f"{len(found)} snapshots start" if found else "no snapshot starts"
        raise NotFound(f"{what} with {start!r}; `aarlab audit list` shows them")
    return found[0]


def _finding(export: "CampaignExport", start: str) -> str:
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


def _submissions(found: "Audit") -> str:
    return f"its submissions{f' on {found.task}' if found.task else ''}, finding {found.id}"
