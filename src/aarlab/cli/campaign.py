"""`aarlab campaign`: run, steer, status, export, check."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.campaign.presets import PRESETS
from aarlab.campaign.provenance import run_settings
from aarlab.campaign.reading import SpecText, read_yaml
from aarlab.campaign.runner import create, export_of, open_spec, reached, run_campaign
from aarlab.campaign.spec import CampaignSpec, load_spec, parse_spec
from aarlab.campaign.status import is_running, status_of
from aarlab.cli import steering
from aarlab.cli.progress import CampaignView
from aarlab.cli.settings import data_root
from aarlab.cli.tables import print_estimate, print_status
from aarlab.core.endings import EXIT_CODES, Ending, given_up_text
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.faults import Faulty
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport

SANDBOXES = ("bubblewrap", "process")
app = typer.Typer(no_args_is_help=True, help="Run and inspect campaigns.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
By = Annotated[str | None, typer.Option(help="your name; default: the login")]
Why = Annotated[str, typer.Option(help="why; kept with the control")]


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="a spec file (YAML) or a preset, e.g. demo")],
    out: Annotated[Path | None, typer.Option(help="folder of the campaign")] = None,
    sandbox: Annotated[str | None, typer.Option(help="bubblewrap or process")] = None,
) -> int:
    """Run a campaign to its end, or resume one that was interrupted.

    Exit code 0: it ended well. 3: some AARs were given up. 4: all were. 2: an error.
    """
    from aarlab.campaign.checking import faults
    from aarlab.testbed.generators.presets import PRESETS as TASKS

    frozen = spec_of(spec, sandbox)
    folder = RunDir((out or Path("runs") / frozen.name).absolute())
    found = faults(frozen, _text_of(spec), data_root(), TASKS.__contains__)
    if found and not folder.export.exists():  # one that ended once may have no more to do
        raise Faulty(f"{spec} cannot run here; nothing was started:", found)
    create(folder, frozen, run_settings(data_root()))
    return exit_code(run_shown(folder))


@app.command()
def resume(folder: Folder) -> int:
    """Resume a paused or interrupted campaign; AARs that were given up are started again.

    Exit codes as of `run`.
    """
    run_dir = RunDir(folder.absolute())
    if steering.go_on(run_dir):
        Console().print("it goes on")
        return 0
    return exit_code(run_shown(run_dir))


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
    """Add to the limits of all AARs together (`aarlab aar extend`: to those of one)."""
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
    """Say offline whether a spec can run here: tasks, models, keys, prices, budgets, sandbox.

    Exit code 0: it can run. 1: the spec is good, and something is to do first. 2: it is wrong.
    """
    from aarlab.campaign.checking import estimate, remarks
    from aarlab.testbed.generators.presets import PRESETS as TASKS

    frozen, console = spec_of(spec, None), Console(highlight=False)
    text = _text_of(spec)
    found = list(remarks(frozen, data_root(), TASKS.__contains__))
    for remark in found:
        line = text.line(remark.place) if remark.gravity != "note" else 0
        where = f"line {line}: " if line else ""
        console.print(f"{remark.gravity:6} {where}{remark.text}", markup=False, soft_wrap=True)
    if any(remark.gravity == "error" for remark in found):
        return 2
    print_estimate(frozen, estimate(frozen), console)
    return 1 if any(remark.gravity == "to do" for remark in found) else 0


def _text_of(name: str) -> SpecText:
    """For the lines of faults; a preset has none."""
    read = [] if name in PRESETS else read_yaml(Path(name).read_bytes())
    return SpecText(None) if isinstance(read, list) else read


def spec_of(name: str, sandbox: str | None) -> CampaignSpec:
    """The preset or file of that name, with another sandbox where one is given."""
    if name in PRESETS:
        spec = PRESETS[name]()
    elif Path(name).exists():
        spec = load_spec(Path(name))
    else:
        raise NotFound(f"no spec file or preset {name!r}; presets: {', '.join(PRESETS)}")
    if sandbox is None:
        return spec
    if sandbox not in SANDBOXES:
        raise BadInput(f"--sandbox {sandbox!r}: there are {', '.join(SANDBOXES)}")
    return parse_spec({**spec.model_dump(), "isolation": sandbox}, name)


def exit_code(export: CampaignExport) -> int:
    return EXIT_CODES.get(export.ending, 0) if export.ending else 0


def run_shown(folder: RunDir) -> CampaignExport:
    """Run with the live table, then say how it ended."""
    console = Console()
    with CampaignView(folder, open_spec(folder), console) as view:
        export = run_campaign(folder, data_root(), view.notify)
    ending = export.ending or Ending.INTERRUPTED
    said = given_up_text(export.endings)
    line = f"{ending.words}: {said}" if said else ending.words
    console.print(line, markup=False, highlight=False, soft_wrap=True)
    if said:
        again = f"aarlab campaign resume {folder.path}"
        console.print(f"remove the cause, then: {again}", markup=False, soft_wrap=True)
    return export
