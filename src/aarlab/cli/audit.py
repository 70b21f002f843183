"""`aarlab audit` and `aarlab verdict`: what the battery found, and what a person decides."""

import getpass
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, finite, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.layout import RunDir
from aarlab.core.showing import interval, moment, number_of, one_line

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

    from aarlab.core.wire import Audit, CampaignExport, Verification

app = typer.Typer(no_args_is_help=True, help="What the platform found about each method.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
Snapshot = Annotated[
    str, typer.Argument(help="a method, such as rowan-7, or a snapshot's id or its start")
]
Disqualifies = Literal["nothing", "task", "all"]  # as core.wire has it
Given = Literal["accepted", "disqualified", "rework", "dismissed", "confirmed"]
READS = {
    "AuditedRun": "re-runs",
    "AuditedSubmissions": "submissions",
    "AuditedCode": "code",
    "AuditedTranscript": "transcripts",
}
COLOUR = {"clear": "green", "note": "yellow", "suspect": "red"}


@app.command("list")
def list_audits(
    folder: Folder,
    everything: Annotated[bool, typer.Option("--all", help="include clear findings")] = False,
    as_json: AsJson = False,
) -> None:
    """List findings, most severe first. Works during and after a campaign.

    Methods are in the order of the leaderboard.
    """
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
    rest = len(export.audits) - len(shown)
    clear = f"; the other {rest} are clear: --all" if rest else ""
    console.print(f"{len(shown)} shown of {number_of(len(export.audits), 'finding')}{clear}")


@app.command()
def kinds(as_json: AsJson = False) -> None:
    """List built-in and installed audits: what each asks, and when a finding is suspect."""
    from rich.table import Table

    from aarlab.verify.audits import AUDITS, check_installed

    check_installed()
    audits = [AUDITS.get(name) for name in AUDITS.names()]
    rows = [
        {
            "audit": audit.name,
            "reads": READS[audit.reads.__name__],
            "question": audit.question,
            "suspect": audit.suspect,
            "package": _package(AUDITS.installed().get(audit.name)),
        }
        for audit in audits
    ]
    if as_json:
        print_json(rows)
        return
    table = Table(*rows[0])
    for row in rows:
        table.add_row(*row.values())
    Console().print(table)


def _package(entry: "EntryPoint | None") -> str:
    if entry is None:
        return "aarlab"
    return "" if entry.dist is None else f"{entry.dist.name} {entry.dist.version}"


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
        nothing = dict.fromkeys(("delivery", "open_because", "ships", "asked", "train_rows"))
        return {**nothing, "stamps": []}
    return {
        "delivery": run.delivery,
        "open_because": why_open(run) or None,
        "ships": run.ships or None,
        "asked": run.asked or None,
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
    """Print everything about one method: re-runs and what they were given, findings, verdicts."""
    from aarlab.core.delivery import TRAINED_ON, asked, given, probes
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
        problem = export.problem_of(v.task)
        figure = "failed" if v.estimate is None else f"{problem.figure} {interval(v.estimate)}"
        failed = f": {one_line(v.error)}" if v.state == "failed" and v.error else ""
        seeds = number_of(len(v.run_seeds), "seed")
        labels = f"trained on {TRAINED_ON[v.ablation]}, " if problem.weak_labels else ""
        line = f"{v.task} {v.split}, {labels}{seeds}: {figure}"
        console.print(line + failed)
        if v.state == "done" and given(v) != told:
            told = given(v)
            console.print(f"  given: {told}")
        other = "teachers" if problem.weak_labels else "seeds"
        if said := probes(v.evidence, other):
            console.print(f"  {said}")
        for said in asked(v.evidence) if v.ablation == "none" else ():
            console.print(f"  {said}")
    for found in audits:
        console.print(f"{found.severity:8} {found.kind:11} {one_line(found.summary)}")
    for verdict in verdicts:
        said = f"{verdict.by}: {verdict.decision}: {verdict.reason}"
        console.print(f"{moment(verdict.at)} {one_line(said)}")


@app.command()
def run(folder: Folder, as_json: AsJson = False) -> None:
    """Run queued verifications and add missing audits."""
    from aarlab.campaign.runner import verify_again

    with when_interrupted(f"What is queued stays queued; to resume: aarlab audit run {folder}"):
        verify_again(RunDir(folder.absolute()), data_root())
    list_audits(folder, as_json=as_json)


@app.command()
def transcripts(
    folder: Folder,
    model: Annotated[str, typer.Option(help="a model of Inspect, e.g. anthropic/...")],
    dollars: Annotated[
        float,
        typer.Option(
            min=0, callback=finite, help="spending limit for all such calls of the campaign"
        ),
    ],
    aar: Annotated[str | None, typer.Option(help="only this AAR's; default: all")] = None,
    as_json: AsJson = False,
) -> None:
    """Let a language model read AARs' transcripts and raise flags, with quotes and positions.

    A flag is for a person: it scores and disqualifies nothing. Parts that were read are kept.
    """
    from contextlib import closing

    from aarlab.agents.prices import price_of
    from aarlab.agents.proxy.booking import OperatorBooks
    from aarlab.campaign.runner import open_spec, reached, write_export
    from aarlab.core.extras import require
    from aarlab.verify.review import PaidAnswers
    from aarlab.verify.transcript_review import ANSWER_TOKENS, review_transcripts

    require("agents")
    from aarlab.verify.reader_model import InspectAsker

    run_dir, out = RunDir(folder.absolute()), Console(highlight=False, stderr=as_json)
    price = price_of(model, open_spec(run_dir).prices)
    again = "Parts that were read are kept; the same command reads the rest"
    with (
        when_interrupted(again),
        closing(InspectAsker(model, price, ANSWER_TOKENS)) as ask,
        reached(run_dir, data_root()) as operator,
    ):
        books = OperatorBooks(operator, "transcripts", model, price, dollars)
        paid = PaidAnswers(ask, books, run_dir.verifier / "transcripts", ANSWER_TOKENS)
        try:
            readings = review_transcripts(run_dir, operator, paid, aar, out.print)
        finally:
            write_export(run_dir, operator, run_dir.export)
    rows = [
        {
            "aar": reading.aar,
            "parts": len(reading.cut.parts),
            "read": reading.read,
            "stopped": reading.stopped,
            "flags": [{"kind": f.kind, "severity": f.severity} for f in reading.flags],
        }
        for reading in readings
    ]
    if as_json:
        print_json(rows)
        return
    for reading in readings:
        stopped = f"; {reading.stopped}" if reading.stopped else ""
        flags = number_of(len(reading.flags), "flag")
        out.print(one_line(f"{reading.aar}: {reading.extent}{stopped}; {flags}"))
    out.print(f"To see what was found: aarlab audit list {folder} --all")


@app.command()
def certify(
    folder: Folder,
    snapshot: Snapshot,
    task: Annotated[str | None, typer.Option(help="default: the first of the campaign")] = None,
    seeds: Annotated[int, typer.Option(min=2, max=64)] = 8,
    as_json: AsJson = False,
) -> None:
    """Score a method once on the certify split, for the report."""
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
        typer.Argument(
            help="a method, such as rowan-7, or the id (or its start) of a snapshot or finding"
        ),
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
        raise BadInput("--reason is empty: give a reason; it is kept in the log")
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
    Console().print(f"{about} {decision}; recorded in the log")


def _export(folder: Path) -> "CampaignExport":
    from aarlab.campaign.runner import reached

    with reached(RunDir(folder.absolute()), data_root()) as operator:
        return operator.export()


def _found(export: "CampaignExport", about: str) -> str:
    """Return the snapshot of this short name, such as rowan-7, or whose id starts so."""
    names = _ranked(export)[0]
    found = [s.id for s in export.snapshots if names.get(s.id) == about]
    found = found or [s.id for s in export.snapshots if s.id.startswith(about)]
    if len(found) != 1 or not about:
        what = f"{len(found)} methods are" if found else "no method is"
        raise NotFound(
            f"{what} named {about!r}, and no single snapshot id starts with it; "
            "`aarlab audit list --all` shows them"
        )
    return found[0]


def _finding(export: "CampaignExport", start: str) -> str:
    """Return the finding on an AAR's submissions or transcript: the others are about a snapshot."""
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
    work = "transcript" if found.kind == "transcript" else "submissions"
    return f"its {work}{f' on {found.task}' if found.task else ''}, finding {found.id}"
