"""`aarlab campaign`: run, steer, status, export, check."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.campaign.checking import refuse_without_pgr
from aarlab.campaign.presets import PRESETS
from aarlab.campaign.provenance import run_settings
from aarlab.campaign.runner import create, export_of, open_spec, reached, run_campaign
from aarlab.campaign.spec import CampaignSpec, load_spec
from aarlab.campaign.status import is_running, status_of
from aarlab.cli import steering
from aarlab.cli.progress import CampaignView
from aarlab.cli.settings import data_root
from aarlab.cli.tables import print_estimate, print_status
from aarlab.core.errors import NotFound
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport

app = typer.Typer(no_args_is_help=True, help="Run and inspect campaigns.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
By = Annotated[str | None, typer.Option(help="your name; default: the login")]
Why = Annotated[str, typer.Option(help="why; kept with the control")]


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="a spec file (YAML) or a preset, e.g. demo")],
    out: Annotated[Path | None, typer.Option(help="folder of the campaign")] = None,
    sandbox: Annotated[str | None, typer.Option(help="bubblewrap or process")] = None,
) -> None:
    """Run a campaign to its end, or go on with one that was interrupted."""
    frozen = spec_of(spec, sandbox)
    folder = RunDir((out or Path("runs") / frozen.name).absolute())
    refuse_without_pgr(frozen, data_root())
    create(folder, frozen, run_settings(data_root()))
    run_shown(folder)


@app.command()
def resume(folder: Folder) -> None:
    """Go on with a paused or interrupted campaign: nothing is lost, nothing is counted twice."""
    run_dir = RunDir(folder.absolute())
    if steering.go_on(run_dir):
        Console().print("it goes on")
    else:
        run_shown(run_dir)


@app.command()
def pause(folder: Folder, why: Why = "", by: By = None) -> None:
    """All AARs finish the step they are at, then wait for `resume`; no research time runs."""
    steering.steer(folder, None, "pause", by, why)


@app.command()
def stop(folder: Folder, why: Why = "", by: By = None) -> None:
    """End the research for good; verification and the export follow."""
    steering.steer(folder, None, "stop", by, why)


@app.command()
def message(
    folder: Folder, text: Annotated[str, typer.Argument(help="to all AARs")], by: By = None
) -> None:
    """Tell all language-model AARs something; each reads it at its next turn."""
    steering.steer(folder, None, "message", by, text)


@app.command()
def extend(
    folder: Folder,
    hours: Annotated[float | None, typer.Option(min=0, help="research hours of all")] = None,
    dollars: Annotated[float | None, typer.Option(min=0)] = None,
    tokens: Annotated[int | None, typer.Option(min=0)] = None,
    device_s: Annotated[float | None, typer.Option(min=0)] = None,
    by: By = None,
) -> None:
    """Raise the limits of all AARs together by so much (`aarlab aar extend`: those of one)."""
    more = {"hours": hours, "dollars": dollars, "tokens": tokens, "device_s": device_s}
    steering.extend(folder, None, by, more)


@app.command()
def status(
    folder: Folder, as_json: Annotated[bool, typer.Option("--json", help="for programs")] = False
) -> None:
    """What each AAR does, has used and has left; works while the campaign runs and after."""
    run_dir = RunDir(folder.absolute())
    running = is_running(run_dir)
    with reached(run_dir, data_root()) as operator:
        found = status_of(run_dir, operator, running)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        print_status(found, Console())


@app.command()
def export(folder: Folder, out: Annotated[Path | None, typer.Option()] = None) -> None:
    """Write what the report needs: no row, no label."""
    run_dir = RunDir(folder.absolute())
    path = out or run_dir.export
    export_of(run_dir, data_root(), path)
    Console().print(f"wrote {path}")


@app.command()
def check(spec: Annotated[str, typer.Argument(help="a spec file or a preset")]) -> int:
    """Validate a spec offline: tasks, models, prices, budgets, sandbox; what it may cost."""
    from aarlab.campaign.checking import Remark, estimate, remarks
    from aarlab.cli.method import broken_contracts
    from aarlab.testbed.generators.presets import PRESETS as TASKS

    frozen, console = spec_of(spec, None), Console(highlight=False)
    found = list(remarks(frozen, data_root(), TASKS.__contains__))
    found += [Remark("error", text) for text in broken_contracts(frozen)]
    for gravity, text in found:
        console.print(f"{gravity:6} {text}", markup=False, soft_wrap=True)
    if any(remark.gravity == "error" for remark in found):
        return 2
    print_estimate(frozen, estimate(frozen), console)
    return 0


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
