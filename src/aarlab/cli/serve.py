"""`aarlab serve`: the platform of one campaign, alone."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from aarlab.cli.settings import data_root


def serve(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    host: Annotated[str | None, typer.Option(help="also listen on TCP, e.g. 127.0.0.1")] = None,
    port: Annotated[int, typer.Option()] = 8321,
) -> int:
    """Serve scoring, forum and snapshots of a campaign: on its unix socket, and on TCP if asked."""
    argv = [sys.executable, "-m", "aarlab.server", "--run", str(folder.absolute())]
    argv += ["--root", str(data_root().path)]
    if host is not None:
        argv += ["--host", host, "--port", str(port)]
    return subprocess.call(argv)
