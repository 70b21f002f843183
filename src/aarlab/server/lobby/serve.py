"""Run the lobby until it is told to stop."""

from collections.abc import Callable
from pathlib import Path

import uvicorn

from aarlab.server.lobby.app import create_lobby
from aarlab.server.lobby.commands import Commands
from aarlab.server.serve import SHUTDOWN_S, tcp_listener


def serve_lobby(
    runs: Path,
    commands: Commands,
    address: tuple[str, int],
    listening: Callable[[], None] = lambda: None,
) -> None:
    """Serve on a host and port until a signal; call `listening` once the port is open.

    Raises Conflict if the port is taken. Campaigns that the lobby started continue without it.
    """
    runs.mkdir(parents=True, exist_ok=True)
    with tcp_listener(*address) as listener:
        config = uvicorn.Config(
            create_lobby(runs, commands),
            log_config=None,
            access_log=False,
            lifespan="on",
            server_header=False,
            timeout_graceful_shutdown=SHUTDOWN_S,
        )
        listening()
        uvicorn.Server(config).run(sockets=[listener])
