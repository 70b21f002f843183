"""`aarlab campaign`: run, resume, status, export, check."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from aarlab.agents.state import load_state
from aarlab.campaign.presets import PRESETS
from aarlab.campaign.provenance import run_settings
from aarlab.campaign.runner import create, export_of, open_spec, run_campaign
from aarlab.campaign.spec import CampaignSpec, load_spec
from aarlab.cli.progress import CampaignView
from aarlab.cli.settings import data_root
from aarlab.core.errors import NotFound
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport

app = typer.Typer(no_args_is_help=True, help="Run and inspect campaigns.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="a spec file (YAML) or a preset, e.g. demo")],
    out: Annotated[Path | None, typer.Option(help="folder of the campaign")] = None,
    sandbox: Annotated[str | None, typer.Option(help="bubblewrap or process")] = None,
) -> None:
    """Run a campaign to its end, or go on with one that was interrupted."""
    frozen = spec_of(spec, sandbox)
    folder = RunDir((out or Path("runs") / frozen.name).absolute())
    create(folder, frozen, run_settings(data_root()))
    run_shown(folder)


@app.command()
def resume(folder: Folder) -> None:
    """Go on with an interrupted campaign: nothing is lost, nothing is counted twice."""
    run_shown(RunDir(folder.absolute()))


@app.command()
def status(folder: Folder) -> None:
    """What each AAR has done; works while the campaign runs and after."""
    run_dir = RunDir(folder.absolute())
    spec = open_spec(run_dir)
    table = Table("AAR", "direction", "trials", "state")
    for aar in spec.aars:
        state = load_state(run_dir.aar(aar.name) / "state.json")
        where = state.why if state.finished else "running or interrupted"
        table.add_row(aar.name, aar.direction or aar.role, str(len(state.done)), where)
    Console().print(table)


@app.command()
def export(folder: Folder, out: Annotated[Path | None, typer.Option()] = None) -> None:
    """Write what the report needs: no row, no label."""
    run_dir = RunDir(folder.absolute())
    path = out or run_dir.export
    export_of(run_dir, data_root(), path)
    Console().print(f"wrote {path}")


@app.command()
def check(spec: Annotated[str, typer.Argument(help="a spec file or a preset")]) -> None:
    """Validate a spec and say what it would run."""
    frozen = spec_of(spec, None)
    trials = sum(len(a.fixed) or (frozen.limits.submissions or 0) for a in frozen.aars)
    Console().print(
        f"{frozen.name}: {len(frozen.aars)} AARs on {', '.join(frozen.tasks)}, up to {trials} "
        f"submissions of {frozen.seeds_per_submission} seeds, {frozen.isolation}"
    )


def spec_of(name: str, sandbox: str | None) -> CampaignSpec:
    if name in PRESETS:
        spec = PRESETS[name]()
    elif Path(name).exists():
        spec = load_spec(Path(name))
    else:
        raise NotFound(f"no spec file or preset {name!r}; presets: {', '.join(PRESETS)}")
    if sandbox is None:
        return spec
    return CampaignSpec.model_validate({**spec.model_dump(), "isolation": sandbox})


def run_shown(folder: RunDir) -> CampaignExport:
    """Run with the live table."""
    console = Console()
    with CampaignView(folder, open_spec(folder), console) as view:
        return run_campaign(folder, data_root(), view.notify)
