"""`aarlab aar`: agents of other makers join a campaign."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.agents.external.connect import ClientKind, Place, client_settings
from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.layout import RunDir

app = typer.Typer(no_args_is_help=True, help="Let an agent of your own join a campaign.")
KINDS: dict[ClientKind, str] = {
    "claude-code": "Claude Code: .mcp.json in the agent's folder",
    "codex": "Codex: ~/.codex/config.toml",
    "generic": "any other MCP client (streamable HTTP)",
    "curl": "by hand",
}


@app.command()
def connect(
    folder: Annotated[Path, typer.Argument(help="the campaign's folder")],
    name: Annotated[str, typer.Argument(help="an AAR of the campaign's spec")],
    client: Annotated[str | None, typer.Option(help=f"only one of {', '.join(KINDS)}")] = None,
    url: Annotated[str | None, typer.Option(help="where the platform answers over HTTP")] = None,
    port: Annotated[int, typer.Option(help="of loopback, where no --url is given")] = 8321,
    forward: Annotated[
        bool, typer.Option(help="lead that port to the campaign's socket, until Ctrl-C")
    ] = False,
) -> None:
    """Print the MCP settings with which an agent becomes this AAR, and where its token lies."""
    run = RunDir(folder.absolute())
    place = Place(url or f"http://127.0.0.1:{port}", _token_file(run, name))
    _print(place, client)
    if forward:
        _forward(run, port)


def _token_file(run: RunDir, name: str) -> Path:
    found = run.tokens / name
    if name in ("operator", "signing", "signing.pub") or "/" in name or not found.is_file():
        raise NotFound(
            f"{run.path} has no token of an AAR {name!r}: name one of the spec's AARs, after the "
            "campaign has started"
        )
    return found


def _print(place: Place, client: str | None) -> None:
    out = Console(soft_wrap=True, highlight=False, markup=False)
    if client is not None:
        kinds = [kind for kind in KINDS if kind == client]
        if not kinds:
            raise BadInput(f"no client {client!r}; there are {', '.join(KINDS)}")
        out.print(client_settings(place, kinds[0]))
        return
    out.print(f"# the token, which is this AAR's alone: {place.token_file}\n{place.export}\n")
    for kind, where in KINDS.items():
        out.print(f"# {where}\n{client_settings(place, kind)}\n")


def _forward(run: RunDir, port: int) -> None:
    from aarlab.agents.proxy.forward import forwarding

    if not run.socket.exists():
        raise NotFound(f"nothing listens on {run.socket}: start the campaign or `aarlab serve`")
    try:
        with forwarding(port, str(run.socket)):
            Console(stderr=True).print(f"port {port} leads to the campaign; Ctrl-C ends it")
            while True:
                time.sleep(1)
    except OSError as error:
        raise Conflict(f"port {port}: {error.strerror}; take another with --port") from error
