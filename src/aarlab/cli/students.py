"""`aarlab students`: the server that owns models and a device, and who uses it."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from aarlab.cli.ending import when_interrupted
from aarlab.cli.options import AsJson, comma_list, finite, print_json
from aarlab.cli.terminal import Console
from aarlab.core.extras import require

app = typer.Typer(no_args_is_help=True, help="Strong students on one device, for many clients.")
Socket = Annotated[Path | None, typer.Option(help="unix socket, in a folder of its own")]


@app.command()
def serve(
    models: Annotated[str, typer.Option(help="names of `aarlab models list`, comma-separated")],
    device: Annotated[
        str, typer.Option(help="cpu, cuda, one such as cuda:1; auto: CUDA where torch finds it")
    ] = "auto",
    socket: Socket = None,
    price: Annotated[
        float, typer.Option(min=0, callback=finite, help="dollars an hour of the device")
    ] = 0.0,
) -> None:
    """Serve strong students of some models on one device, until Ctrl-C.

    A device has one server. Its clients hold neither texts nor models.
    """
    require("testbed")
    from aarlab.core.logs import log_to_stderr
    from aarlab.students.serve import Wanted
    from aarlab.students.serve import serve as serve_students

    log_to_stderr("INFO")
    wanted = Wanted(tuple(comma_list(models, "--models", at_least=1)), device, socket, price)
    with when_interrupted("Clients have to be admitted again when it serves again."):
        serve_students(wanted, typer.echo)


@app.command()
def status(socket: Socket = None, as_json: AsJson = False) -> None:
    """Print the servers of this machine and what their clients hold and have used."""
    from aarlab.students.grants import Operator
    from aarlab.students.server import running
    from aarlab.students.settings import DeviceSettings

    if socket is not None:
        paths = [socket]
    else:
        paths = [Path(one["socket"]) for one in running(DeviceSettings().device_locks)]
    found = list[dict[str, Any]]()
    for path in paths:
        with Operator(path) as operator:
            found.append({"socket": str(path), **operator.status()})
    if as_json:
        print_json(found)
        return
    console = Console()
    if not found:
        console.print("no student server runs on this machine: aarlab students serve --models NAME")
    for one in found:
        models = ", ".join(one["models"]) or "stored features only"
        line = f"{one['device']}: {models}, process {one['pid']}, {one['socket']}"
        console.print(line, highlight=False, soft_wrap=True)
        table = Table("client", "class", "sessions", "device s", "rows trained", "handles", "MB")
        for client in one["clients"]:
            used = (f"{client['device_s']:.1f}", f"{client['rows_trained']:,}")
            held = (str(client["handles"]), f"{client['bytes'] / 1e6:.1f}")
            table.add_row(client["name"], client["kind"], str(client["sessions"]), *used, *held)
        if one["clients"]:
            console.print(table)
            waiting = ", ".join(one["waiting"]) or "nobody"
            console.print(f"the device: {one['holder'] or 'free'}; waiting: {waiting}")
