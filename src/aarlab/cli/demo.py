"""`aarlab demo`: a whole campaign on real models, from nothing to a report."""

import json
import shutil
import time
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from aarlab.cli.campaign import SandboxKind
from aarlab.cli.ending import when_interrupted
from aarlab.cli.printing import AsJson, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import MethodFailed
from aarlab.core.extras import require
from aarlab.core.layout import RunDir


def demo(
    out: Annotated[Path, typer.Option(help="folder of the campaign")] = Path("runs/demo"),
    sandbox: Annotated[
        SandboxKind | None, typer.Option(help="process: no isolation, every score is stamped so")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="discard an earlier run in that folder")] = False,
    as_json: AsJson = False,
) -> None:
    """Models, task, campaign, verification, report: a few minutes on two cores, no key needed."""
    require("testbed", "server", "sandbox", "report")
    from aarlab.campaign.provenance import run_settings
    from aarlab.campaign.runner import check_vacant, create
    from aarlab.cli.campaign import run_shown, spec_of
    from aarlab.report.load import load_export
    from aarlab.report.write import write_report
    from aarlab.sandbox import probe, workspace
    from aarlab.testbed.generators.presets import preset
    from aarlab.testbed.making import Workshop, private_seed

    console, begun, run = Console(stderr=as_json), time.monotonic(), RunDir(out.absolute())
    spec = spec_of("demo", sandbox)
    if fresh and run.spec.exists():
        workspace.remove_tree(run.path)  # AARs may have left folders that are closed or very deep
    root, task = data_root(), spec.tasks[0]
    # Before the minutes that models and features take: what would stop the campaign after them.
    probe(spec.isolation)
    check_vacant(run, make=True)
    console.rule("1 of 3: models and task")
    shop = Workshop(root, lambda text: console.print(f"  {text}"))
    with when_interrupted("Features computed so far are kept; run the same command to continue."):
        built = shop.build_preset(preset(task, private_seed(root, task)))
    if built.from_cache:
        console.print("  task and features come from the cache: same rows, same options, intact")
    console.rule("2 of 3: campaign")
    if run.export.exists():
        console.print(f"  {run.path} holds a finished campaign; `--fresh` runs a new one")
    create(run, spec, run_settings(root), root)
    run_shown(run, console, f"aarlab demo --out {out}")
    console.rule("3 of 3: report")
    write_report(load_export(run.export), run.report)
    summary = json.loads((run.report / "summary.json").read_text(encoding="utf-8"))
    if not summary["submissions"]:
        raise MethodFailed(f"no method was scored: {_first_error(run)}; report: {run.report}")
    shutil.copyfile(run.report / "summary.json", run.path / "summary.json")
    if as_json:
        print_json(summary)
    else:
        _leaderboard(console, summary)
    console.print(f"report:  {run.report / 'index.html'}")
    console.print(f"summary: {run.path / 'summary.json'}   ({time.monotonic() - begun:.0f} s)")


def _first_error(run: RunDir) -> str:
    from aarlab.agents.state import load_state

    states = [load_state(path) for path in sorted(run.path.glob("aars/*/state.json"))]
    errors = [trial.error or state.why for state in states for trial in state.trials]
    return next(filter(None, errors), "see aars/*/aar.log")


def _leaderboard(console: Console, summary: dict[str, Any]) -> None:
    """Print the report's leaderboard, and open methods in a table of their own, without ranks."""
    from aarlab.core.delivery import OPEN_IN_WORDS
    from aarlab.core.headline import PGR_IN_WORDS

    verified = [m for m in summary["methods"] if m["selection"] is not None]
    title = f"PGR on {summary['task']}, verified on hidden rows and seeds drawn afterwards"
    console.print(_table(title, [m for m in verified if not m["open"]]))
    if summary["delivery_note"]:
        console.print(summary["delivery_note"])
    if opened := [m for m in verified if m["open"]]:
        console.print(_table("open methods: verified with texts", opened))
        console.print(OPEN_IN_WORDS)
    console.print(str(summary["verdict"]), style="bold")
    console.print(PGR_IN_WORDS)


def _table(title: str, methods: list[dict[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("", no_wrap=True, justify="right")
    table.add_column("method", no_wrap=True, overflow="ellipsis", max_width=24)
    one_seed = any(method["selection"]["seeds"] == 1 for method in methods)
    for name in ("search", "selection", "one seed" if one_seed else "95 %", "permuted"):
        table.add_column(name, no_wrap=True, min_width=6, justify="right")
    for method in methods:
        selection, ablation = method["selection"], method["ablation"]
        table.add_row(
            str(method["rank"] or ""),
            method["short"],
            f"{method['search']['pgr']:+.2f}" if method["search"] else "-",
            f"{selection['pgr']:+.2f}",
            f"[{selection['low']:+.2f}, {selection['high']:+.2f}]",
            f"{ablation['permuted']['pgr']:+.2f}" if ablation else "",
        )
    return table
