"""`aarlab demo`: a whole campaign on real models, from an empty folder to a report."""

import json
import re
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, finite, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, MethodFailed
from aarlab.core.extras import require
from aarlab.core.isolation import SandboxKind
from aarlab.core.layout import DataRoot, RunDir

if TYPE_CHECKING:
    from aarlab.campaign.spec import CampaignSpec

BUILD_TIME, CAMPAIGN_TIME = "2 minutes", "2 minutes"  # on two idle cores: docs/quickstart.md


def demo(
    out: Annotated[
        Path | None, typer.Option(help="folder of the campaign; default: runs/demo")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="a language model does research too, e.g. anthropic/claude-sonnet-4-5"),
    ] = None,
    dollars: Annotated[
        float | None,
        typer.Option(
            min=0.01, callback=finite, help="spending limit for all AARs that use --model"
        ),
    ] = None,
    aars: Annotated[int, typer.Option(min=1, max=9, help="AARs that use --model")] = 1,
    sandbox: Annotated[
        SandboxKind | None, typer.Option(help="process: no isolation; every score is marked so")
    ] = None,
    fresh: Annotated[bool, typer.Option(help="discard an earlier run in that folder")] = False,
    as_json: AsJson = False,
) -> None:
    """Run a whole campaign: models, tasks, campaign, verification, report.

    It takes a few minutes on two cores and needs no key.
    """
    require("testbed", "server", "sandbox", "report", "agents")
    from aarlab.campaign.registration import run_settings
    from aarlab.campaign.runner import check_vacant, create
    from aarlab.cli.campaign import run_shown
    from aarlab.report.load import load_export
    from aarlab.report.write import write_report
    from aarlab.sandbox import probe, workspace

    console, begun, root = Console(stderr=as_json), time.monotonic(), data_root()
    spec = demo_spec(model, dollars, aars, sandbox)
    run = RunDir((out or Path("runs") / default_folder(model)).absolute())
    # Before the minutes that models and features take: what would stop the campaign after them.
    check_researchers(spec, root)
    if fresh and run.spec.exists():
        workspace.remove_tree(run.path)  # AARs may have left folders that are closed or very deep
    probe.probe(spec.isolation)
    check_vacant(run, make=True)
    console.rule("1 of 3: models and tasks")
    _build(root, spec, console)
    console.rule("2 of 3: campaign")
    if run.export.exists():
        console.print(f"  {run.path} holds a finished campaign; `--fresh` runs a new one")
    else:
        _say_who(console, spec)
    create(run, spec, run_settings(root), root)
    again = "" if model is None else f" --model {model} --dollars {dollars:g} --aars {aars}"
    run_shown(run, console, f"aarlab demo --out {run.path}{again}")
    console.rule("3 of 3: report")
    write_report(load_export(run.export), run.report)
    summary = json.loads((run.report / "summary.json").read_text(encoding="utf-8"))
    if not summary["submissions"]:
        raise MethodFailed(f"no method was scored: {_first_error(run)}; report: {run.report}")
    shutil.copyfile(run.report / "summary.json", run.path / "summary.json")
    if as_json:
        print_json(summary)
    else:
        leaderboard(console, summary)
        found(console, summary)
        _read_on(console, run, spec)
    console.print(f"summary: {run.path / 'summary.json'}   ({time.monotonic() - begun:.0f} s)")


def demo_spec(
    model: str | None, dollars: float | None, aars: int, sandbox: SandboxKind | None
) -> "CampaignSpec":
    """Return the demo's spec; raises BadInput for a model without a cap, or a cap without one."""
    from aarlab.campaign.presets import demo as preset
    from aarlab.campaign.spec import parse_spec

    if model is None and (dollars is not None or aars != 1):
        raise BadInput("--dollars and --aars need --model")
    if model is not None and dollars is None:
        raise BadInput(f"say what {model} may cost at most, all AARs together: --dollars 5")
    spec = preset() if model is None else preset(model, dollars, aars)
    return spec if sandbox is None else parse_spec({**spec.model_dump(), "isolation": sandbox}, "")


def default_folder(model: str | None) -> str:
    """Return a folder name for the runs of this model, so that runs of two models do not clash."""
    if model is None:
        return "demo"
    return f"demo-{re.sub(r'[^a-z0-9.]+', '-', model.lower()).strip('-.')}"


def check_researchers(spec: "CampaignSpec", root: DataRoot) -> None:
    """Raise BadInput if a key, a package or a price is missing, before anything is built.

    Raises Damaged for an installed audit that cannot be loaded.
    """
    from aarlab.campaign.checking import remarks
    from aarlab.verify.audits import check_installed

    check_installed()
    elsewhere = ("tasks", "held_out", "isolation")
    lacking = [
        remark.text
        for remark in remarks(spec, root, lambda _: True)
        if remark.gravity != "note" and remark.place[:1] not in {(name,) for name in elsewhere}
    ]
    if lacking:
        raise BadInput("; ".join(dict.fromkeys(lacking)))


def _build(root: DataRoot, spec: "CampaignSpec", console: Console) -> None:
    from aarlab.cli.steps import Steps
    from aarlab.testbed.tasks.making import Workshop

    if not all(root.versions(task) for task in (*spec.tasks, *spec.held_out)):
        console.print(f"  about {BUILD_TIME} on two idle cores, once; later runs take seconds")
    note = "Features computed so far are kept; run the same command to continue."
    with when_interrupted(note), Steps(console) as steps:
        shop = Workshop(root, steps.tell, steps.advance)
        for task in (*spec.tasks, *spec.held_out):
            built = shop.build_embedded(task)
            if built.from_cache:
                steps.tell(f"{task} comes from the cache: same rows, same options, intact")


def _say_who(console: Console, spec: "CampaignSpec") -> None:
    """Say who does research, and what is scripted."""
    from aarlab.campaign.presets import SCRIPTED_CHEAT

    searches = [a.name for a in spec.aars if a.researcher in ("random", "evolutionary")]
    lines = [f"{', '.join(searches)}: control researchers, which search without a language model"]
    for aar in spec.aars:
        if (language := spec.language_of(aar)) is None:
            continue
        what = f"a language model, {language.model}"
        if language.model.startswith("scripted/"):
            what = "scripted, instead of a language model; what it measures is real"
        cheats = "; it cheats on purpose" if aar.name == SCRIPTED_CHEAT else ""
        lines.append(f"{aar.name}: {what}{cheats}")
    dollars = spec.campaign_limits.dollars
    lines.append(
        f"about {CAMPAIGN_TIME} on two idle cores"
        if dollars is None
        else f"model calls cost at most ${dollars:g} together, and research takes an hour at most"
    )
    for line in lines:
        console.print(f"  {line}", soft_wrap=True, highlight=False)


def _first_error(run: RunDir) -> str:
    from aarlab.agents.state import load_state

    states = [load_state(path) for path in sorted(run.path.glob("aars/*/state.json"))]
    errors = [trial.error or state.why for state in states for trial in state.trials]
    return next(filter(None, errors), "see aars/*/aar.log")


def leaderboard(console: Console, summary: dict[str, Any]) -> None:
    """Print the report's leaderboard; methods that stand apart have a table without ranks."""
    from aarlab.core.delivery import APART_IN_WORDS
    from aarlab.core.headline import PGR_IN_WORDS

    console.print(PGR_IN_WORDS)
    verified = [m for m in summary["methods"] if m["selection"] is not None]
    title = f"PGR on {summary['task']}"
    console.print(_table(title, [m for m in verified if not m["apart"]]))
    if summary["delivery_note"]:
        console.print(summary["delivery_note"])
    if apart := [m for m in verified if m["apart"]]:
        console.print(_table("methods apart: verified with texts or shipping data", apart))
        console.print(APART_IN_WORDS)
    console.print(COLUMNS_IN_WORDS)


COLUMNS_IN_WORDS = (
    "“verified”: the platform ran the method again itself, on rows that no researcher has seen and "
    "with other teachers and seeds. “[low, high]” is its 95 % interval: over rows, seeds and both "
    "baselines. “permuted labels”: the same method when the teacher's labels are shuffled; a score "
    "that stays was not learned from the teacher."
)


def _table(title: str, methods: list[dict[str, Any]]) -> Table:
    table = Table(title=title)
    table.add_column("", no_wrap=True, justify="right")
    table.add_column("method", no_wrap=True, overflow="ellipsis", max_width=24)
    one_seed = any(method["selection"]["seeds"] == 1 for method in methods)
    bounds = "one seed" if one_seed else "[low, high]"
    for name in ("while\nsearching", "verified", bounds, "permuted\nlabels"):
        table.add_column(Text(name), no_wrap=True, justify="right")
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


def found(console: Console, summary: dict[str, Any]) -> None:
    """Print what was found, a paragraph for each finding."""
    console.rule("what was found")
    for about, text in summary["in_words"]:
        console.print(Text.assemble((f"{about}: ", "bold"), text))


def _from_here(path: Path) -> str:
    """Return the path as it is typed here: relative where it is below the working folder."""
    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def _read_on(console: Console, run: RunDir, spec: "CampaignSpec") -> None:
    """Say where the report is, and how to read what a language-model AAR said and did."""
    beside = Path(sys.executable).with_name("aarlab")
    command = f"{sys.executable} -m aarlab.cli"
    if shutil.which("aarlab"):
        command = "aarlab"
    elif beside.exists():
        command = _from_here(beside)
    folder = _from_here(run.path)
    lines = [f"report: {run.report / 'index.html'}"]
    lines += [
        f"what {aar.name} thought and did: {command} aar transcript {folder} {aar.name}"
        for aar in spec.aars
        if spec.language_of(aar) is not None
    ]
    lines.append(f"all of it in a browser: {command} serve {folder}")
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False)
