"""`aarlab campaign compare` and `aarlab campaign classify`."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from aarlab.cli.options import AsJson, finite, print_json
from aarlab.cli.report import check_report, export_path, report_folder
from aarlab.cli.terminal import Console
from aarlab.core.extras import require
from aarlab.core.layout import RunDir

Source = Annotated[Path, typer.Argument(help="a campaign's folder or an export.json")]


def compare(
    source: Source,
    out: Annotated[Path | None, typer.Option(help="folder of the comparison")] = None,
    replace: Annotated[bool, typer.Option(help="overwrite what is in that folder")] = False,
    as_json: AsJson = False,
) -> None:
    """Compare the arms of one campaign, with intervals over replicates."""
    require("report")
    from aarlab.report import more_tables
    from aarlab.report.arms import MEASURES
    from aarlab.report.compare import write_arms
    from aarlab.report.load import load_export

    folder = out or report_folder(source)
    export = load_export(export_path(source))
    if out is not None and not replace:
        check_report(out, export)
    comparison = write_arms(export, folder)
    page = folder / "comparison.html"
    if as_json:
        print_json(
            {
                "reference": comparison.reference,
                "equal_hours": comparison.equal_h,
                "groups": {
                    group.name: {
                        "replicates": len(group.teams),
                        **{m.key: (s := group.spread(m)) and s._asdict() for m in MEASURES},
                    }
                    for group in comparison.groups
                },
                "differences": {
                    key: [one._asdict() for one in found]
                    for key, found in comparison.differences.items()
                },
                "page": str(page),
            }
        )
        return
    console = Console()
    for shown in (more_tables.groups(comparison), more_tables.differences(comparison)):
        table = Table(*(column.title for column in shown.columns), title=shown.caption)
        for row in shown.rows:
            table.add_row(*(f"{cell.text} {cell.small}".strip() for cell in row.cells))
        console.print(table)
    console.print(f"wrote {page}")


def classify(
    source: Source,
    model: Annotated[str, typer.Option(help="a model of Inspect, e.g. anthropic/...")],
    dollars: Annotated[
        float | None,
        typer.Option(
            min=0, callback=finite, help="spending limit for all such calls of the campaign"
        ),
    ] = None,
) -> None:
    """Let a language model put each idea into its family; kept in ideas.json next to the export.

    Each call is in the ledger of a campaign's folder. An export alone has no ledger.
    """
    from aarlab.agents.idea_judge import classify_export
    from aarlab.core.errors import BadInput
    from aarlab.report.load import load_export

    path = export_path(source)
    answers = path.parent / "ideas.json"
    if source.is_dir():
        with _books(RunDir(source.absolute()), model, dollars) as books:
            done = classify_export(load_export(path), answers, model, books)
    elif dollars is not None:
        raise BadInput("--dollars needs a ledger: give the campaign's folder, not its export")
    else:
        done = classify_export(load_export(path), answers, model)
    Console().print(f"{done.asked} asked, {done.kept} kept from before, {done.failed} no answer")


@contextmanager
def _books(run: RunDir, model: str, dollars: float | None) -> Iterator[Any]:
    """Yield the bookings of a campaign's folder, or None if it holds an export only."""
    from aarlab.agents.prices import price_of
    from aarlab.agents.proxy.booking import OperatorBooks
    from aarlab.campaign.runner import open_spec, reached, write_export
    from aarlab.cli.settings import data_root

    if not (run.tokens / "operator").exists() or not run.spec.exists():
        yield None
        return
    price = price_of(model, open_spec(run).prices)
    with reached(run, data_root()) as operator:
        try:
            yield OperatorBooks(operator, "classify", model, price, dollars)
        finally:
            write_export(run, operator, run.export)  # so that its spend includes these calls
