"""The supervisor's connections to the platform, and the heartbeats by which its time counts."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aarlab.agents.config import AarConfig
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address
from aarlab.core.errors import AarlabError
from aarlab.core.research_time import HEARTBEAT_S

LOG = logging.getLogger("aarlab.agents")


def connect(config: AarConfig, deadline_s: float) -> PlatformClient:
    """Return a client with the AAR's token and its supervisor's key."""
    token, place = config.token_file.read_text(encoding="utf-8").strip(), config.supervisor_file
    vouches = (
        place.read_text(encoding="utf-8").strip() if place is not None and place.exists() else ""
    )
    return PlatformClient(Address(config.url or config.socket), token, deadline_s, vouches)


@contextmanager
def beating(connect: Callable[[], PlatformClient], every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Send a heartbeat every `every_s` seconds until the end of the block.

    It runs in a thread, so that the process does not look dead during a long model call or command.
    """
    over = threading.Event()

    def beat() -> None:
        with connect() as platform:
            while not over.wait(every_s):
                try:
                    platform.me()
                except AarlabError as error:
                    LOG.warning("no sign of life reached the platform: %s", error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)
