"""`aarlab aar`: steer one AAR while it runs; agents of other makers join a campaign."""

import contextlib
import json
import sys
import time
from pathlib import Path
from typing import Annotated

import typer

from aarlab.agents.external.connect import ClientKind, Place, client_settings
from aarlab.cli.options import finite
from aarlab.cli.terminal import Console
from aarlab.core.errors import AarlabError, BadInput, Conflict, NotFound
from aarlab.core.layout import RunDir

PORT, LOOPBACK = 8331, "127.0.0.1"  # `aarlab serve` has 8321
app = typer.Typer(no_args_is_help=True, help="Steer an AAR, or connect your own agent.")
KINDS: dict[ClientKind, str] = {
    "claude-code": "Claude Code: .mcp.json in the agent's folder",
    "codex": "Codex: ~/.codex/config.toml",
    "generic": "any other MCP client",
    "curl": "by hand",
}


Folder = Annotated[Path, typer.Argument(help="the campaign's folder")]
AarName = Annotated[str, typer.Argument(help="an AAR of the campaign's spec")]
CaFile = Annotated[
    Path | None,
    typer.Option(help="CA of the server at --url: RUN/platform/tls/ca.pem for its own"),
]
By = Annotated[str | None, typer.Option(help="your name; default: the login")]
Why = Annotated[str, typer.Option(help="the reason; kept in the log")]


@app.command()
def pause(folder: Folder, name: AarName, why: Why = "", by: By = None) -> None:
    """Pause this AAR after its current step. Research time does not count meanwhile."""
    from aarlab.cli.steering import steer

    steer(folder, name, "pause", by, why)


@app.command()
def resume(folder: Folder, name: AarName, by: By = None) -> None:
    """Let a paused AAR continue."""
    from aarlab.cli.steering import steer

    steer(folder, name, "resume", by)


@app.command()
def stop(folder: Folder, name: AarName, why: Why = "", by: By = None) -> None:
    """Stop this AAR permanently after its current step. Its work is kept."""
    from aarlab.cli.steering import steer

    steer(folder, name, "stop", by, why)


@app.command()
def message(
    folder: Folder,
    name: AarName,
    text: Annotated[str, typer.Argument(help="the message")],
    by: By = None,
) -> None:
    """Send a message to an AAR.

    A language model reads it at its next turn, an agent of another maker when it asks
    (`operator_messages`).
    """
    from aarlab.cli.steering import steer

    steer(folder, name, "message", by, text)


@app.command()
def extend(
    folder: Folder,
    name: AarName,
    hours: Annotated[float | None, typer.Option(min=0, callback=finite)] = None,
    dollars: Annotated[float | None, typer.Option(min=0, callback=finite)] = None,
    tokens: Annotated[int | None, typer.Option(min=0)] = None,
    device_s: Annotated[float | None, typer.Option(min=0, callback=finite)] = None,
    submissions: Annotated[int | None, typer.Option(min=0)] = None,
    methods: Annotated[int | None, typer.Option(min=0)] = None,
    by: By = None,
) -> None:
    """Raise its limits. An AAR that ended because its budget was used up continues."""
    from aarlab.cli import steering

    more = {"hours": hours, "dollars": dollars, "tokens": tokens, "device_s": device_s}
    steering.extend(folder, name, by, {**more, "submissions": submissions, "methods": methods})


@app.command()
def transcript(
    folder: Folder,
    name: AarName,
    whole: Annotated[bool, typer.Option(help="print long results in full")] = False,
) -> None:
    """Print what a language-model AAR read, thought and did, while it runs and after."""
    from aarlab.cli.transcripts import print_entry
    from aarlab.core.transcript import read_transcript

    run = RunDir(folder.absolute())
    run.must_exist()
    path = run.transcript(name)
    if not path.is_file():
        raise NotFound(
            f"{path.parent} has no transcript: only language-model AARs write one, once they begin"
        )
    out = Console(highlight=False, soft_wrap=True)
    for entry in read_transcript(path):
        print_entry(out, entry, whole)


@app.command()
def connect(
    folder: Folder,
    name: AarName,
    client: Annotated[str | None, typer.Option(help=f"only one of {', '.join(KINDS)}")] = None,
    url: Annotated[str | None, typer.Option(help="where the platform answers over HTTP")] = None,
    forward: Annotated[
        bool, typer.Option(help="forward a port of this machine to the campaign, until Ctrl-C")
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help=f"which port; default: {PORT}, or a free one"),
    ] = None,
    show_token: Annotated[
        bool, typer.Option(help="write the token itself into settings over HTTP")
    ] = False,
    ca: CaFile = None,
) -> None:
    """Print the settings with which an agent becomes this AAR.

    Without --url, --forward or --port they start `aarlab aar bridge`, which needs no port and no
    token. So do those for a --url with a --ca.
    """
    from aarlab.client.transport import Address

    run = RunDir(folder.absolute())
    token_file = _token_file(run, name)
    if url is not None and (forward or port is not None):
        raise BadInput("give either --url, where it is served, or --forward and --port")
    if ca is not None and url is None:
        raise BadInput("--ca is the CA of the server at --url: give both")
    if url is not None:
        Address(url, ca)  # refuses what would show the token to the network
    with contextlib.ExitStack() as opened:
        if forward:
            url = _forward(run, port, opened)
        elif port is not None:
            url = f"http://{LOOPBACK}:{port}"
        far = () if ca is None else ("--url", str(url), "--ca", str(ca.absolute()))
        place = Place(
            token_file,
            run.socket,
            (sys.executable, "-m", "aarlab.cli", "aar", "bridge", str(run.path), name, *far),
            url,
            token_file.read_text(encoding="utf-8").strip() if show_token else None,
            ca,
        )
        _print(place, client)
        _print_listening(run, place, forward)
        while forward:
            time.sleep(1)


@app.command()
def bridge(
    folder: Folder,
    name: AarName,
    url: Annotated[
        str | None, typer.Option(help="where the platform answers, if not on the run's socket")
    ] = None,
    ca: CaFile = None,
) -> None:
    """Serve this AAR's MCP server on stdin and stdout; an MCP client starts it."""
    from aarlab.client.transport import Address

    run = RunDir(folder.absolute())
    token_file = _token_file(run, name)
    address = Address(run.socket if url is None else url, ca)
    try:
        from aarlab.agents.external.bridge import run_bridge
    except ModuleNotFoundError as missing:
        if missing.name is None or missing.name.partition(".")[0] not in ("mcp", "httpx2", "anyio"):
            raise
        raise NotFound("the MCP package is missing; run: pip install 'aarlab[mcp]'") from None
    run_bridge(address, token_file)


def _token_file(run: RunDir, name: str) -> Path:
    run.must_exist()
    found = run.tokens / name
    if name in ("operator", "signing", "signing.pub") or "/" in name or not found.is_file():
        raise NotFound(
            f"{run.path} has no token of an AAR {name!r}: name one of the spec's AARs, after the "
            "campaign has started"
        )
    return found


def _print(place: Place, client: str | None) -> None:
    out = Console(soft_wrap=True, highlight=False)
    if client is not None:
        kinds = [kind for kind in KINDS if kind == client]
        if not kinds:
            raise BadInput(f"no client {client!r}; there are {', '.join(KINDS)}")
        out.print(client_settings(place, kinds[0]))
        return
    about = "needed over HTTP and for curl; the bridge reads it by itself"
    out.print(f"# this AAR's token, {about}: {place.token_file}\n{place.export}\n")
    for kind, where in KINDS.items():
        out.print(f"# {where}\n{client_settings(place, kind)}\n")


def _print_listening(run: RunDir, place: Place, forward: bool) -> None:
    """Print what answers at the address in the settings, or what to start. Sends no token."""
    told = Console(stderr=True, soft_wrap=True, highlight=False)
    if own := _researcher_of(run, place.token_file.name):
        told.print(
            f"note: {place.token_file.name} works by itself (researcher: {own}). An agent that "
            "connects acts as it, at the same time; give your agent one with `researcher: external`"
        )
    if forward:
        told.print(f"{place.mcp} is forwarded to the campaign; stop with Ctrl-C")
    elif place.url is None and _answers(run.socket, None):
        told.print(f"listening: {run.socket}")
    elif place.url is None:
        told.print(f"nothing listens on {run.socket}: start the campaign or `aarlab serve`")
    elif _answers(place.url, place.ca):
        told.print(f"listening: {place.url}")
    else:
        told.print(
            f"nothing listens on {place.url} yet: `aarlab aar connect ... --forward` leads a port "
            "to the campaign, `aarlab serve RUN --host HOST --port PORT` serves it"
        )


def _researcher_of(run: RunDir, name: str) -> str | None:
    """Return the researcher of an AAR that the campaign runs itself, by its spec, or None."""
    try:
        spec = json.loads(run.spec.read_text(encoding="utf-8"))["campaign"]
        aar = next(one for one in spec["aars"] if one["name"] == name)
    except (OSError, ValueError, KeyError, TypeError, StopIteration):
        return None
    external = aar.get("external") or {}
    own = aar["researcher"] if aar["researcher"] != "external" else external.get("agent")
    return None if own in (None, "mcp") else str(own)


def _answers(place: Path | str, ca: Path | None) -> bool:
    from aarlab.client.transport import Address, health

    try:
        health(Address(place, ca), deadline_s=2)
    except AarlabError:
        return False
    return True


def _forward(run: RunDir, port: int | None, opened: contextlib.ExitStack) -> str:
    """Forward a local port to the campaign and return the address of that port.

    Raises NotFound if the campaign has no socket, and Conflict if the port cannot be used.
    """
    from aarlab.agents.proxy.forward import forwarding

    if not run.socket.exists():
        raise NotFound(f"nothing listens on {run.socket}: start the campaign or `aarlab serve`")
    try:
        try:
            bound = opened.enter_context(
                forwarding(PORT if port is None else port, str(run.socket))
            )
        except OSError:
            if port is not None:
                raise
            bound = opened.enter_context(forwarding(0, str(run.socket)))
    except OSError as error:
        raise Conflict(f"port {port}: {error.strerror}; choose another with --port") from error
    return f"http://{LOOPBACK}:{bound}"
