"""`aarlab report`: everything a reader opens, from an exported campaign."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from aarlab.cli.options import check_empty
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import NotFound
from aarlab.core.extras import require
from aarlab.core.layout import RunDir

if TYPE_CHECKING:
    from aarlab.core.wire import CampaignExport

Source = Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")]
Out = Annotated[Path | None, typer.Option(help="folder of the report")]


class _WriteByDefault(TyperGroup):
    """`aarlab report SOURCE` is `aarlab report write SOURCE`; ./compare names a folder."""

    default = "write"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "-h", "--help"}
        if args and args[0] not in known:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WriteByDefault,
    no_args_is_help=True,
    help="Report of a campaign: aarlab report RUN. Two campaigns: aarlab report compare A B.",
)


def export_path(source: Path) -> Path:
    """Return the path of a campaign's export. Raises NotFound where there is none to read."""
    if not source.exists():
        raise NotFound(
            f"no campaign and no export at {source}: name a campaign's folder "
            "(`aarlab campaign list runs`) or an export.json"
        )
    if not source.is_dir():
        return source
    run = RunDir(source.absolute())
    if not run.export.exists():
        run.must_exist()
        raise NotFound(f"{source} has no export yet: aarlab campaign export {source}")
    return run.export


def report_folder(source: Path) -> Path:
    return RunDir(source.absolute()).report if source.is_dir() else source.parent / "report"


def check_report(folder: Path, export: "CampaignExport") -> None:
    """Raise Conflict unless the folder is new, empty, or an earlier report of that campaign."""
    try:
        known = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
        same = (known["campaign"], known["started_at"]) == (export.campaign, export.started_at)
    except (OSError, ValueError, KeyError, TypeError):
        same = False
    if not same:
        check_empty(folder, "--out, or --replace")


@app.command()
def write(
    source: Source,
    out: Out = None,
    task: Annotated[
        str | None, typer.Option(help="which development task; default: the first")
    ] = None,
    replace: Annotated[bool, typer.Option(help="overwrite files of something else in --out")] = (
        False
    ),
) -> None:
    """Write index.html, figures, CSV, report.md and summary.json. Needs no server.

    With --task, writes into a subfolder of that name.
    """
    require("report")
    from aarlab.report.load import load_export
    from aarlab.report.write import write_report

    folder = out or (report_folder(source) / task if task else report_folder(source))
    export = load_export(export_path(source))
    if out is not None and not replace:
        check_report(out, export)
    write_report(export, folder, task)
    Console().print(f"wrote {folder / 'index.html'}")


@app.command()
def track(
    source: Source,
    to: Annotated[str, typer.Option(help="mlflow, wandb, or an installed exporter")],
    where: Annotated[
        str | None,
        typer.Option(
            help="a folder, or MLflow's tracking URI; default: a folder in that of the campaign"
        ),
    ] = None,
    project: Annotated[str, typer.Option(help="project or experiment there")] = "aarlab",
    online: Annotated[
        bool, typer.Option("--online", help="W&B: send at once, with the key of the environment")
    ] = False,
) -> None:
    """Write curves, spend, events and verified results into an experiment tracker.

    While the campaign runs, scores are those that AARs were shown. Verified results follow after
    its end.
    """
    require("report", *({"mlflow", "wandb"} & {to}))
    from aarlab.report.settings import without_telemetry
    from aarlab.report.tracking import EXPORTERS, Destination, tracking_of

    without_telemetry()
    exporter = EXPORTERS.get(to)
    export, ended, events = _now(source)
    folder = source if source.is_dir() else source.parent
    destination = Destination(where or str(folder / exporter.folder), project, online)
    console = Console(highlight=False)
    console.print(f"wrote {exporter.send(tracking_of(export, ended, events), destination)}")


def _now(source: Path) -> "tuple[CampaignExport, bool, list[dict[str, Any]]]":
    """Return the export of a campaign, whether its research has ended, and its events.

    A campaign that is running is asked for its figures; otherwise its export is read.
    """
    from aarlab.campaign.runner import open_spec, reached
    from aarlab.campaign.status import is_running
    from aarlab.campaign.webhook import sent_events
    from aarlab.core.endings import Ending, last_ending
    from aarlab.report.load import load_export

    run = RunDir(source.absolute())
    if not source.is_dir() or not run.spec.exists():
        export = load_export(export_path(source))
        return export, export.ending is not None, []
    events = list(sent_events(run, open_spec(run)))
    if is_running(run):
        with reached(run, data_root()) as operator:
            return operator.export(), False, events
    export, last = load_export(export_path(source)), last_ending(run.events)
    interrupted = last is not None and last[0] is Ending.INTERRUPTED
    return export, export.ending is not None and not interrupted, events


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")],
    second: Annotated[Path, typer.Argument(help="a campaign to subtract from the first")],
    out: Annotated[Path, typer.Option(help="folder of the comparison")] = Path("comparison"),
    replace: Annotated[bool, typer.Option(help="overwrite what is in that folder")] = False,
) -> None:
    """Compare two campaigns with intervals, and report what makes the comparison unfair."""
    require("report")
    from aarlab.report.compare import write_comparison
    from aarlab.report.load import load_export

    exports = [load_export(export_path(source)) for source in (first, second)]
    if not replace:
        check_empty(out, "--out, or --replace")
    notes = write_comparison(exports[0], exports[1], out)
    console = Console()
    for note in notes:
        console.print(f"not comparable: {note}")
    console.print(f"wrote {out / 'comparison.html'}")
