"""`aarlab campaign compare` and `aarlab campaign classify`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aarlab.cli.report import export_path, report_folder

Source = Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")]


def compare(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="folder of the comparison")] = None,
) -> None:
    """Differences between the arms of one campaign, with intervals over replicates."""
    from aarlab.report import more_tables
    from aarlab.report.compare import write_arms
    from aarlab.report.load import load_export

    folder = out or report_folder(source)
    comparison = write_arms(load_export(export_path(source)), folder)
    console = Console()
    for shown in (more_tables.groups(comparison), more_tables.differences(comparison)):
        table = Table(*(column.title for column in shown.columns), title=shown.caption)
        for row in shown.rows:
            table.add_row(*(f"{cell.text} {cell.small}".strip() for cell in row.cells))
        console.print(table, markup=False)
    console.print(f"wrote {folder / 'comparison.html'}")


def classify(
    source: Source,
    model: Annotated[str, typer.Option(help="a model of Inspect, e.g. anthropic/...")],
) -> None:
    """Let a language model put each idea into its family; kept in ideas.json beside the export."""
    from aarlab.agents.idea_judge import classify_export
    from aarlab.report.load import load_export

    path = export_path(source)
    done = classify_export(load_export(path), path.parent / "ideas.json", model)
    Console().print(f"{done.asked} asked, {done.kept} kept from before, {done.failed} no answer")
