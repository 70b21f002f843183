"""`aarlab campaign`: run, steer, status, export, check."""

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, check_file, finite, print_json
from aarlab.cli.settings import data_root
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.extras import require
from aarlab.core.isolation import SandboxKind
from aarlab.core.layout import RunDir

if TYPE_CHECKING:
    from aarlab.campaign.reading import SpecText
    from aarlab.campaign.spec import CampaignSpec
    from aarlab.campaign.status import CampaignStatus
    from aarlab.core.wire import CampaignExport

app = typer.Typer(no_args_is_help=True, help="Run and inspect campaigns.")
Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
By = Annotated[str | None, typer.Option(help="your name; default: the login")]
Data = Annotated[
    Path | None, typer.Option(help="folder of the tasks to build, instead of build.folder")
]
Why = Annotated[str, typer.Option(help="the reason; kept in the log")]


@app.command()
def run(
    spec: Annotated[str, typer.Argument(help="a spec file (YAML) or a preset, e.g. demo")],
    out: Annotated[Path | None, typer.Option(help="folder of the campaign")] = None,
    sandbox: Annotated[
        SandboxKind | None, typer.Option(help="process: no isolation; every score is marked so")
    ] = None,
    data: Data = None,
) -> int:
    """Run a campaign to its end, or resume one that was interrupted.

    Tasks that the spec builds are built first, in another process (`aarlab campaign build`).

    Exit code 0: it ended well. 3: some AARs were given up. 4: all were. 2: an error.
    """
    from aarlab.campaign.checking import faults
    from aarlab.campaign.registration import run_settings
    from aarlab.campaign.runner import create
    from aarlab.core.errors import Faulty
    from aarlab.core.layout import embedded_names

    require_all()
    from aarlab.verify.audits import check_installed

    check_installed()
    frozen = _with_data(spec_of(spec, sandbox), data)
    folder = RunDir((out or Path("runs") / frozen.name).absolute())
    if frozen.build is not None and not folder.spec.exists():
        _build_first(spec, frozen, data)
    frozen = frozen.model_copy(update={"build": None})
    found = faults(frozen, _text_of(spec), data_root(), embedded_names().__contains__)
    if found and not folder.export.exists():  # one that ended once may have no more to do
        raise Faulty(f"{spec} cannot run here; nothing was started:", found)
    create(folder, frozen, run_settings(data_root()), data_root())
    return exit_code(run_shown(folder))


@app.command()
def build(spec: Annotated[str, typer.Argument(help="a spec file")], data: Data = None) -> None:
    """Build the tasks of a spec's `build` part; what was built before is used as it is.

    Seeds of teachers and ceilings that an interrupted build trained are kept.
    """
    from aarlab.campaign.building import build_tasks
    from aarlab.cli.steps import Steps

    require("testbed")
    frozen, console = _with_data(spec_of(spec, None), data), Console()
    if frozen.build is None:
        raise BadInput(f"{spec} has no `build`: its tasks are there, or built by aarlab task build")
    with (
        when_interrupted("Finished seeds of the baselines are kept; run it again to resume."),
        Steps(console) as steps,
    ):
        build_tasks(frozen, data_root(), steps.tell, steps.advance)


def _with_data(spec: "CampaignSpec", data: Path | None) -> "CampaignSpec":
    if data is None:
        return spec
    if spec.build is None:
        raise BadInput("--data belongs to a spec with `build`")
    build = spec.build.model_copy(update={"folder": str(data.absolute())})
    return spec.model_copy(update={"build": build})


def _build_first(name: str, spec: "CampaignSpec", data: Path | None) -> None:
    """Build the tasks in another process, so that this one holds no model while it supervises.

    Raises Faulty with all that keeps the campaign from running, before anything is built.
    """
    from aarlab.campaign.checking import faults
    from aarlab.core.errors import Faulty
    from aarlab.core.layout import embedded_names

    found = faults(spec, _text_of(name), data_root(), embedded_names().__contains__)
    if found:
        raise Faulty(f"{name} cannot run here; nothing was started:", found)
    words = [sys.executable, "-m", "aarlab.cli", "campaign", "build", name]
    words += [] if data is None else ["--data", str(data)]
    with when_interrupted("Finished seeds of the baselines are kept; run it again to resume."):
        done = subprocess.run(words, check=False)
    if done.returncode:
        raise BadInput(f"{name}: its tasks were not built (exit code {done.returncode}, see above)")


@app.command()
def resume(folder: Folder) -> int:
    """Resume a paused or interrupted campaign; AARs that were given up are started again.

    Exit codes are those of `run`.
    """
    from aarlab.cli import steering

    run_dir = RunDir(folder.absolute())
    require_all()
    from aarlab.verify.audits import check_installed

    if steering.go_on(run_dir):
        Console().print("resumed")
        return 0
    check_installed()
    return exit_code(run_shown(run_dir))


@app.command()
def pause(folder: Folder, why: Why = "", by: By = None) -> None:
    """Pause: all AARs finish their current step, then wait for `resume`.

    Research time does not count meanwhile.
    """
    from aarlab.cli import steering

    steering.steer(folder, None, "pause", by, why)


@app.command()
def stop(folder: Folder, why: Why = "", by: By = None) -> None:
    """Stop the research permanently. Verification and the export follow."""
    from aarlab.cli import steering

    steering.steer(folder, None, "stop", by, why)


@app.command()
def message(
    folder: Folder, text: Annotated[str, typer.Argument(help="the message")], by: By = None
) -> None:
    """Send a message to all language-model AARs. Each reads it at its next turn."""
    from aarlab.cli import steering

    steering.steer(folder, None, "message", by, text)


@app.command()
def extend(
    folder: Folder,
    hours: Annotated[
        float | None, typer.Option(min=0, callback=finite, help="research hours of all")
    ] = None,
    dollars: Annotated[float | None, typer.Option(min=0, callback=finite)] = None,
    tokens: Annotated[int | None, typer.Option(min=0)] = None,
    device_s: Annotated[float | None, typer.Option(min=0, callback=finite)] = None,
    by: By = None,
) -> None:
    """Raise the limits of all AARs together (`aarlab aar extend`: those of one)."""
    from aarlab.cli import steering

    more = {"hours": hours, "dollars": dollars, "tokens": tokens, "device_s": device_s}
    steering.extend(folder, None, by, more)


@app.command("list")
def list_campaigns(
    runs: Annotated[Path, typer.Argument(help="a folder of campaigns")] = Path("runs"),
    as_json: AsJson = False,
) -> None:
    """List the campaigns of a folder, newest first."""
    from rich.table import Table

    from aarlab.server.lobby.processes import campaigns

    if not runs.is_dir():
        raise NotFound(f"no folder {runs}: name the folder that holds the campaigns' folders")
    found = campaigns(runs.absolute())
    if as_json:
        print_json(found)
        return
    if not found:
        Console().print(f"no campaign in {runs}")
        return
    table = Table("campaign", "state", "tasks", "AARs", "last event", "at")
    for one in found:
        tasks, last = ", ".join(map(str, one["tasks"])), one["event"] or one["words"]
        cells = (one["name"], one["state"], tasks, str(one["n_aars"]), last, one["last"])
        table.add_row(*(str(cell) for cell in cells))
    Console().print(table)


@app.command()
def status(folder: Folder, as_json: AsJson = False) -> None:
    """Print what each AAR does, has used and has left; works while the campaign runs and after."""
    from aarlab.cli.progress import print_status

    run_dir = RunDir(folder.absolute())
    found = _status(run_dir)
    if as_json:
        typer.echo(found.model_dump_json(indent=1))
    else:
        print_status(found, Console())
        if not found.running and run_dir.export.exists():
            from aarlab.core.headline import verdict_of
            from aarlab.report.load import load_export

            Console().print(verdict_of(load_export(run_dir.export)), style="bold")
        if found.ending in ("crashed", "interrupted"):
            Console().print(f"to continue: aarlab campaign resume {folder}", soft_wrap=True)


def _status(run: RunDir) -> "CampaignStatus":
    """Read the status from the database, or through a server if the database is outdated."""
    from aarlab.campaign.status import is_running, status_of
    from aarlab.campaign.stored import Outdated, stored_figures

    run.must_exist()
    try:
        return status_of(run, stored_figures(run), is_running(run))
    except Outdated:
        from aarlab.campaign.runner import reached

        with reached(run, data_root()) as operator:
            return status_of(run, operator, is_running(run))


@app.command()
def export(
    folder: Folder,
    out: Annotated[
        Path | None, typer.Option(help="file; default: export.json in the campaign's folder")
    ] = None,
    replace: Annotated[bool, typer.Option(help="overwrite the file --out")] = False,
) -> None:
    """Write export.json, which the report reads. It holds no rows and no labels."""
    from aarlab.campaign.runner import export_of

    run_dir = RunDir(folder.absolute())
    path = out or run_dir.export
    if path.absolute() != run_dir.export:
        check_file(path, replace, "--out")
    export_of(run_dir, data_root(), path)
    Console().print(f"wrote {path}")


@app.command()
def check(
    spec: Annotated[str, typer.Argument(help="a spec file or a preset")],
    data: Data = None,
    node: Annotated[
        bool, typer.Option(help="start a job as an AAR's and look at its node")
    ] = False,
    wait_s: Annotated[
        float, typer.Option("--wait-s", min=1, callback=finite, help="for that job")
    ] = 300.0,
) -> int:
    """Check whether a spec can run here: tasks, models, keys, prices, devices, disk, sandbox.

    Asks no network, except an executor's engine and a store of blobs. With --node a job of the
    executor looks at a node: sandbox, devices, disk, keys, the shared folder, and the way to this
    machine.

    Exit code 0: it can run. 1: the spec is valid, but something is missing here. 2: it is invalid.
    """
    from aarlab.campaign.checking import Remark, estimate, remarks
    from aarlab.cli.method import broken_contracts
    from aarlab.cli.progress import print_estimate
    from aarlab.core.layout import embedded_names

    frozen, console = _with_data(spec_of(spec, None), data), Console(highlight=False)
    text = _text_of(spec)
    found = list(remarks(frozen, data_root(), embedded_names().__contains__))
    found += [Remark("error", said, ("methods",)) for said in broken_contracts(frozen)]
    if node and not any(remark.gravity == "error" for remark in found):
        from aarlab.campaign.node_probe import node_remarks

        with console.status("waiting for a node"):
            found += node_remarks(frozen, data_root(), wait_s)
    for remark in found:
        line = text.line(remark.place) if remark.gravity != "note" else 0
        where = f"line {line}: " if line else ""
        console.print(f"{remark.gravity:6} {where}{remark.text}", soft_wrap=True)
    if any(remark.gravity == "error" for remark in found):
        return 2
    try:
        print_estimate(frozen, estimate(frozen), console)
    except NotFound:
        console.print("no estimate: a price is unknown (see above)")
    return 1 if any(remark.gravity == "to do" for remark in found) else 0


def _text_of(name: str) -> "SpecText":
    """Return the spec's text, to find the lines of faults; empty for a preset."""
    from aarlab.campaign.presets import PRESETS
    from aarlab.campaign.reading import SpecText, read_yaml

    read = [] if name in PRESETS else read_yaml(Path(name).read_bytes())
    return SpecText(None) if isinstance(read, list) else read


def spec_of(name: str, sandbox: SandboxKind | None) -> "CampaignSpec":
    """Return the spec of a preset or file, with its sandbox replaced if one is given.

    Raises NotFound if neither exists.
    """
    from aarlab.campaign.presets import PRESETS
    from aarlab.campaign.spec import load_spec, parse_spec

    if name in PRESETS:
        spec = PRESETS[name]()
    elif Path(name).exists():
        spec = load_spec(Path(name))
    else:
        raise NotFound(f"no spec file or preset {name!r}; presets: {', '.join(PRESETS)}")
    if sandbox is None:
        return spec
    return parse_spec({**spec.model_dump(), "isolation": sandbox}, name)


def exit_code(export: "CampaignExport") -> int:
    from aarlab.core.endings import EXIT_CODES

    return EXIT_CODES.get(export.ending, 0) if export.ending else 0


def require_all() -> None:
    """Raise MissingExtra before anything is written, not from a child process minutes later."""
    require("testbed", "server", "sandbox")


def run_shown(folder: RunDir, console: Console | None = None, resume: str = "") -> "CampaignExport":
    """Run a campaign with the live table, then print how it ended.

    `resume` is the command that continues after an interruption.
    """
    from aarlab.campaign.runner import open_spec, run_campaign
    from aarlab.cli.progress import CampaignView
    from aarlab.core.endings import Ending, given_up_text

    console, again = console or Console(), resume or f"aarlab campaign resume {folder.path}"
    spec = open_spec(folder)
    with (
        when_interrupted(f"Progress is saved; to resume: {again}"),
        CampaignView(folder, spec, console) as view,
    ):
        export = run_campaign(folder, data_root(), view.notify)
    ending = export.ending or Ending.INTERRUPTED
    said = given_up_text(export.endings)
    console.print(f"{ending.words}: {said}" if said else ending.words, soft_wrap=True)
    if said:
        console.print(f"remove the cause, then: {again}", soft_wrap=True)
    return export
