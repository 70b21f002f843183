"""`aarlab report`: from an exported campaign to a page, figures and tables."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.core.layout import RunDir


def report(
    source: Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")],
    out: Annotated[Path | None, typer.Option(help="folder of the report")] = None,
) -> None:
    """Write report/index.html, figures, CSV and summary.json. Needs no server."""
    from aarlab.report.load import load_export
    from aarlab.report.write import write_report

    run = RunDir(source.absolute())
    path = run.export if source.is_dir() else source
    folder = out or (run.report if source.is_dir() else source.parent / "report")
    write_report(load_export(path), folder)
    Console().print(f"wrote {folder / 'index.html'}")
