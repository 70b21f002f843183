"""`aarlab serve`: the pages of one campaign, or of all in a folder."""

import socket
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
    tls: Annotated[
        bool, typer.Option("--tls", help="speak TLS on the port, with a CA made for the campaign")
    ] = False,
) -> None:
    """Serve the dashboard of one campaign, or with --runs of all campaigns of a folder.

    It has a port of this machine. The API of one campaign is on that and on its unix socket.
    """
    if (folder is None) == (runs is None):
        raise BadInput("give the folder of one campaign, or --runs FOLDER for many")
    if tls and runs is not None:
        raise BadInput("--tls is for one campaign: put a proxy with TLS in front of --runs")
    require("server")
    if runs is not None:
        _serve_lobby(runs.absolute(), host, port)
    elif folder is not None:
        _serve_one(RunDir(folder.absolute()), host, port, tls)


def _serve_one(run: RunDir, host: str, port: int, tls: bool) -> None:
    """Serve one campaign in this process, so that a signal to this process ends the server."""
    from aarlab.campaign.certificates import certificates
    from aarlab.campaign.runner import open_spec
    from aarlab.core.logs import log_to_stderr
    from aarlab.server.serve import serve as serve_platform
    from aarlab.server.settings import ServerSettings

    spec = open_spec(run)
    log_to_stderr()
    made = certificates(run, *_names(host)) if tls else None
    settings = ServerSettings(
        run=run.path,
        data=data_root().path,
        tasks=spec.tasks,
        exact_feedback=spec.exact_feedback,
        at_rest=True,
        host=host,
        port=port,
        certificate=made and made.certificate,
        certificate_key=made and made.key,
    )

    def said() -> None:
        _say(host, port, run.tokens / "operator", "http" if made is None else "https")
        if made is not None:
            typer.echo(f"clients trust the CA of this campaign: {made.ca}")

    serve_platform(settings, said)


def _serve_lobby(runs: Path, host: str, port: int) -> None:
    from aarlab.cli.launching import commands
    from aarlab.server.lobby.app import serve_lobby

    if not runs.is_dir():
        typer.echo(f"{runs} does not exist yet: it is created, without a campaign")
    with when_interrupted("Campaigns that were started from the dashboard keep running."):
        token = runs / ".lobby" / "operator"
        serve_lobby(runs, commands(), host, port, lambda: _say(host, port, token))


def _names(host: str) -> list[str]:
    """Return under which names a server is reached that listens on `host`, which may be all."""
    everywhere = host in ("0.0.0.0", "::")
    return [socket.gethostname(), socket.getfqdn()] if everywhere else [host]


def _say(host: str, port: int, token: Path, scheme: str = "http") -> None:
    """Print the address and how to sign in; called once the port is open."""
    shown = f"[{host}]" if ":" in host else host
    typer.echo(f"{scheme}://{shown}:{port}/")
    typer.echo(f"to sign in, paste the token: cat '{token}'")
    typer.echo("Ctrl-C ends the server")
