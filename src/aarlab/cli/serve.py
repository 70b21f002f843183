"""`aarlab serve`: the pages of one campaign, or of all in a folder."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.cli.settings import data_root
from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir


def serve(
    folder: Annotated[Path | None, typer.Argument(help="the campaign's folder")] = None,
    runs: Annotated[
        Path | None, typer.Option(help="a folder of campaigns: list, launch and open them")
    ] = None,
    host: Annotated[str | None, typer.Option(help="also listen on TCP, e.g. 127.0.0.1")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535)] = 8321,
) -> int:
    """Serve a campaign: API on its unix socket; API and dashboard on TCP if asked (--host).

    With --runs instead: one dashboard for all campaigns of a folder, on 127.0.0.1.
    """
    if (folder is None) == (runs is None):
        raise BadInput("give the folder of one campaign, or --runs FOLDER for many")
    if runs is not None:
        _serve_lobby(runs.absolute(), host or "127.0.0.1", port)
        return 0
    from aarlab.campaign.runner import open_spec, server_argv

    assert folder is not None
    run = RunDir(folder.absolute())
    argv = server_argv(run, data_root(), open_spec(run))
    if host is not None:
        argv += ["--host", host, "--port", str(port)]
        Console().print(f"http://{host}:{port}/  token: {run.tokens / 'operator'}")
    return subprocess.call(argv)


def _serve_lobby(runs: Path, host: str, port: int) -> None:
    from aarlab.cli.launching import commands
    from aarlab.server.lobby.serve import serve_lobby

    Console().print(f"http://{host}:{port}/  token: {runs / '.lobby' / 'operator'}")
    serve_lobby(runs, commands(), host, port)
