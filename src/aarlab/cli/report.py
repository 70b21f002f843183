"""`aarlab report`: everything a reader opens, from an exported campaign."""

from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from aarlab.cli.terminal import Console
from aarlab.core.layout import RunDir

Source = Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")]
Out = Annotated[Path | None, typer.Option(help="folder of the report")]


class _WriteByDefault(TyperGroup):
    """`aarlab report SOURCE` is `aarlab report write SOURCE`; ./compare names a folder."""

    default = "write"

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        known = {*self.commands, "--help"}
        if args and args[0] not in known:
            args = [self.default, *args]
        return super().parse_args(ctx, args)


app = typer.Typer(
    cls=_WriteByDefault,
    no_args_is_help=True,
    help="Report of a campaign: aarlab report RUN. Two campaigns: aarlab report compare A B.",
)


def export_path(source: Path) -> Path:
    return RunDir(source.absolute()).export if source.is_dir() else source


def report_folder(source: Path) -> Path:
    return RunDir(source.absolute()).report if source.is_dir() else source.parent / "report"


@app.command()
def write(
    source: Source,
    out: Out = None,
    task: Annotated[
        str | None, typer.Option(help="which development task; default: the first")
    ] = None,
) -> None:
    """Write index.html, figures, CSV, report.md and summary.json. Needs no server.

    With --task below a folder of that name.
    """
    from aarlab.report.load import load_export
    from aarlab.report.write import write_report

    folder = out or (report_folder(source) / task if task else report_folder(source))
    write_report(load_export(export_path(source)), folder, task)
    Console().print(f"wrote {folder / 'index.html'}")


@app.command()
def compare(
    first: Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")],
    second: Annotated[Path, typer.Argument(help="the same, taken off the first")],
    out: Annotated[Path, typer.Option(help="folder of the comparison")] = Path("comparison"),
) -> None:
    """Differences of two campaigns with intervals, and what makes them unfair."""
    from aarlab.report.compare import write_comparison
    from aarlab.report.load import load_export

    exports = [load_export(export_path(source)) for source in (first, second)]
    notes = write_comparison(exports[0], exports[1], out)
    console = Console()
    for note in notes:
        console.print(f"not like with like: {note}", markup=False)
    console.print(f"wrote {out / 'comparison.html'}")
