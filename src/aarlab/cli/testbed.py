"""`aarlab testbed run`: methods times seeds on one task, with intervals, no agent at all."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aarlab.cli.settings import data_root
from aarlab.core.clock import now_iso
from aarlab.core.files import write_json

app = typer.Typer(no_args_is_help=True, help="Run methods on a task yourself.")


@app.callback()
def group() -> None:
    """Keeps `run` a command of its own."""


@app.command()
def run(
    task: Annotated[str, typer.Option(help="a built task; see `aarlab task list`")],
    methods: Annotated[str, typer.Option(help="names, comma-separated")] = "vanilla,confident",
    seeds: Annotated[int, typer.Option(min=1, max=16)] = 5,
    guards: Annotated[bool, typer.Option(help="add the guard baselines")] = True,
    json_out: Annotated[Path | None, typer.Option("--json", help="also write JSON here")] = None,
) -> None:
    """Run methods on the search split and print PGR with its 95 % interval."""
    from aarlab.cli.operator import open_scorer
    from aarlab.testbed.making import Workshop
    from aarlab.testbed.panel import PanelRow, methods_named, run_panel, search_bench
    from aarlab.testbed.task import open_public

    root, console = data_root(), Console()
    chosen = methods_named([name.strip() for name in methods.split(",")], guards)
    public = open_public(root.public_task(task))
    features = Workshop(root, console.print).strong_features(public)
    bench = search_bench(public, features, open_scorer(root))
    with console.status("running") as status:
        rows = run_panel(chosen, bench, seeds, lambda m, s: status.update(f"{m}, seed {s}"))
    base = bench.judge.baselines(task, "search")
    table = Table(
        title=f"{task}, search split: {base.n_rows} rows, {seeds} seeds; "
        f"weak {base.weak:.3f}, ceiling {base.ceiling:.3f}"
    )
    for name in (
        "method",
        "PGR",
        "95 % interval",
        "accuracy",
        "weak",
        "ceiling",
        "n",
        "seeds",
        "s",
    ):
        table.add_column(name, justify="left" if name == "method" else "right")

    def cells(row: PanelRow) -> list[str]:
        return [
            f"{row.method}{' (guard)' if row.guard else ''}",
            f"{row.pgr.value:+.2f}",
            f"[{row.pgr.low:+.2f}, {row.pgr.high:+.2f}]",
            *(f"{value:.3f}" for value in (row.transfer, row.weak, row.ceiling)),
            str(row.n_rows),
            str(row.n_seeds),
            f"{row.seconds:.1f}",
        ]

    for row in rows:
        table.add_row(*cells(row))
    console.print(table)
    if json_out is not None:
        body = {
            "task": task,
            "split": "search",
            "at": now_iso(),
            "content_hash": public.info.content_hash,
            "pair": public.info.pair,
            "methods": [_as_json(row) for row in rows],
        }
        write_json(json_out, body)
        console.print(f"wrote {json_out}")


def _as_json(row: object) -> dict[str, object]:
    from dataclasses import asdict

    from aarlab.testbed.panel import PanelRow

    assert isinstance(row, PanelRow)
    return {**asdict(row), "pgr": row.pgr.model_dump()}
