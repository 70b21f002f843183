"""`aarlab serve`: the pages of one campaign, or of all in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from aarlab.cli.ending import when_interrupted
from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput
from aarlab.core.extras import require
from aarlab.core.layout import RunDir


def serve(
    folder: Annotated[Path | None, typer.Argument(help="the campaign's folder")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="a folder of campaigns: list, launch and open them")
    ] = None,
    host: Annotated[
        str, typer.Option(help="address to listen on; 0.0.0.0 lets other machines in")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535)] = 8321,
) -> None:
    """Serve one campaign: dashboard and API on a port of this machine, API on its unix socket.

    With --runs instead: one dashboard for all campaigns of a folder.
    """
    if (folder is None) == (runs is None):
        raise BadInput("give the folder of one campaign, or --runs FOLDER for many")
    require("server")
    if runs is not None:
        _serve_lobby(runs.absolute(), host, port)
    elif folder is not None:
        _serve_one(RunDir(folder.absolute()), host, port)


def _serve_one(run: RunDir, host: str, port: int) -> None:
    """Serve one campaign in this process, so that a signal to this process ends the server."""
    from aarlab.campaign.runner import open_spec
    from aarlab.core.logs import log_to_stderr
    from aarlab.server.serve import serve as serve_platform
    from aarlab.server.settings import ServerSettings

    spec = open_spec(run)
    log_to_stderr()
    settings = ServerSettings(
        run=run.path,
        data=data_root().path,
        tasks=spec.tasks,
        exact_feedback=spec.exact_feedback,
        at_rest=True,
        host=host,
        port=port,
    )
    serve_platform(settings, lambda: _say(host, port, run.tokens / "operator"))


def _serve_lobby(runs: Path, host: str, port: int) -> None:
    from aarlab.cli.launching import commands
    from aarlab.server.lobby.app import serve_lobby

    if not runs.is_dir():
        typer.echo(f"{runs} does not exist yet: it is created, without a campaign")
    with when_interrupted("Campaigns that were started from the dashboard keep running."):
        token = runs / ".lobby" / "operator"
        serve_lobby(runs, commands(), host, port, lambda: _say(host, port, token))


def _say(host: str, port: int, token: Path) -> None:
    """Print the address and how to sign in; called once the port is open."""
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"http://{shown}:{port}/")
    typer.echo(f"to sign in, paste the token: cat '{token}'")
    typer.echo("Ctrl-C ends the server")
