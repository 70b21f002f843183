"""`aarlab aar`: steer one AAR while it runs; agents of other makers join a campaign."""

import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from aarlab.agents.external.connect import ClientKind, Place, client_settings
from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.layout import RunDir

app = typer.Typer(no_args_is_help=True, help="Steer an AAR; let an agent of your own join.")
KINDS: dict[ClientKind, str] = {
    "claude-code": "Claude Code: .mcp.json in the agent's folder",
    "codex": "Codex: ~/.codex/config.toml",
    "generic": "any other MCP client (streamable HTTP)",
    "curl": "by hand",
}


Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
AarName = Annotated[str, typer.Argument(help="an AAR of the campaign's spec")]
By = Annotated[str | None, typer.Option(help="your name; default: the login")]
Why = Annotated[str, typer.Option(help="why; kept with the control")]


@app.command()
def pause(folder: Folder, name: AarName, why: Why = "", by: By = None) -> None:
    """Let it finish the step it is at, then wait; no research time runs."""
    from aarlab.cli.steering import steer

    steer(folder, name, "pause", by, why)


@app.command()
def resume(folder: Folder, name: AarName, by: By = None) -> None:
    """Let a paused AAR go on."""
    from aarlab.cli.steering import steer

    steer(folder, name, "resume", by)


@app.command()
def stop(folder: Folder, name: AarName, why: Why = "", by: By = None) -> None:
    """End it for good after the step it is at; what it made stays."""
    from aarlab.cli.steering import steer

    steer(folder, name, "stop", by, why)


@app.command()
def message(
    folder: Folder,
    name: AarName,
    text: Annotated[str, typer.Argument(help="what it is to be told")],
    by: By = None,
) -> None:
    """Tell a language-model AAR something; it reads it at its next turn."""
    from aarlab.cli.steering import steer

    steer(folder, name, "message", by, text)


@app.command()
def extend(
    folder: Folder,
    name: AarName,
    hours: Annotated[float | None, typer.Option(min=0)] = None,
    dollars: Annotated[float | None, typer.Option(min=0)] = None,
    tokens: Annotated[int | None, typer.Option(min=0)] = None,
    device_s: Annotated[float | None, typer.Option(min=0)] = None,
    submissions: Annotated[int | None, typer.Option(min=0)] = None,
    methods: Annotated[int | None, typer.Option(min=0)] = None,
    by: By = None,
) -> None:
    """Add to its limits; an AAR that ended by its budget continues."""
    from aarlab.cli import steering

    more = {"hours": hours, "dollars": dollars, "tokens": tokens, "device_s": device_s}
    steering.extend(folder, name, by, {**more, "submissions": submissions, "methods": methods})


@app.command()
def connect(
    folder: Folder,
    name: AarName,
    client: Annotated[str | None, typer.Option(help=f"only one of {', '.join(KINDS)}")] = None,
    url: Annotated[str | None, typer.Option(help="where the platform answers over HTTP")] = None,
    port: Annotated[
        int, typer.Option(min=1, max=65535, help="of loopback, where no --url is given")
    ] = 8321,
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
