"""`aarlab serve`: the platform of one campaign, alone."""

import subprocess
from pathlib import Path
from typing import Annotated

import typer

from aarlab.cli.settings import data_root
from aarlab.core.layout import RunDir


def serve(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    host: Annotated[str | None, typer.Option(help="also listen on TCP, e.g. 127.0.0.1")] = None,
    port: Annotated[int, typer.Option()] = 8321,
) -> int:
    """Serve a campaign: API on its unix socket; API and dashboard on TCP if asked (--host)."""
    from aarlab.campaign.runner import open_spec, server_argv

    run = RunDir(folder.absolute())
    argv = server_argv(run, data_root(), open_spec(run))
    if host is not None:
        argv += ["--host", host, "--port", str(port)]
    return subprocess.call(argv)
