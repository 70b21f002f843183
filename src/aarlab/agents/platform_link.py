"""The supervisor's connections to the platform, and the heartbeats by which its time counts."""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from aarlab.agents.config import AarConfig
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Address, Life
from aarlab.core.errors import AarlabError, Superseded
from aarlab.core.research_time import HEARTBEAT_S

LOG = logging.getLogger("aarlab.agents")


@dataclass
class Link:
    """Opens connections of one AAR process, with the AAR's token and its supervisor's key.

    They share one life, which begins when one of them opens the session.
    """

    config: AarConfig
    deadline_s: float
    life: Life = field(default_factory=Life)

    def __call__(self) -> PlatformClient:
        config = self.config
        token, place = config.token_file.read_text(encoding="utf-8").strip(), config.supervisor_file
        known = place is not None and place.exists()
        vouches = place.read_text(encoding="utf-8").strip() if place is not None and known else ""
        address = Address(config.url or config.socket, config.ca)
        return PlatformClient(address, token, self.deadline_s, vouches, self.life)


@contextmanager
def beating(connect: Callable[[], PlatformClient], every_s: float = HEARTBEAT_S) -> Iterator[None]:
    """Send a heartbeat every `every_s` seconds until the end of the block.

    It runs in a thread, so that the process does not look dead during a long model call or command.
    A life that is over sends none: its clients know that by then.
    """
    over = threading.Event()

    def beat() -> None:
        with connect() as platform:
            while not over.wait(every_s):
                try:
                    platform.me()
                except Superseded as error:
                    LOG.warning("%s", error)
                    return
                except AarlabError as error:
                    LOG.warning("no sign of life reached the platform: %s", error)

    thread = threading.Thread(target=beat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(every_s)
