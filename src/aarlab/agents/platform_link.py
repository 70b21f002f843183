"""The supervisor's connections to the platform, signs of life, and what the operator wants.

One long poll per process is both: a sign of life every HEARTBEAT_S, answered at once where the
operator wants something else. In a pod, the pod asks for all its AARs and leaves the answer in a
file.
"""

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.agents.config import AarConfig
from aarlab.client.platform import PlatformClient
from aarlab.client.transport import Life
from aarlab.core.errors import AarlabError, Superseded
from aarlab.core.research_time import HEARTBEAT_S
from aarlab.core.wire import Wanted

LOG = logging.getLogger("aarlab.agents")
AGAIN_S = 2.0  # after an error of the platform
FILE_S = 0.5


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
        return PlatformClient(config.address, token, self.deadline_s, vouches, self.life)


class Signals:
    """What the operator wants of the AAR, as far as this process knows, for all its threads."""

    def __init__(self) -> None:
        self.wanted: Wanted = "run"
        self._stops: set[threading.Event] = set()

    def tell(self, wanted: Wanted) -> None:
        self.wanted = wanted
        if wanted == "stop":
            for event in tuple(self._stops):
                event.set()

    @contextmanager
    def setting(self, event: threading.Event) -> Iterator[None]:
        """Set the event as soon as the AAR is to stop, while this block runs."""
        self._stops.add(event)
        if self.wanted == "stop":
            event.set()
        try:
            yield
        finally:
            self._stops.discard(event)


@contextmanager
def beating(
    connect: Callable[[], PlatformClient],
    signals: Signals,
    wanted_file: Path | None = None,
    every_s: float = HEARTBEAT_S,
) -> Iterator[None]:
    """Give signs of life and keep `signals` up to date until the end of the block.

    It runs in a thread, so that the process does not look dead during a long model call or command.
    A life that is over sends none: its clients know that by then. In a pod nothing is sent: the
    pod gives the signs of life, and says in `wanted_file` what is wanted.
    """
    over = threading.Event()

    def beat() -> None:
        with connect() as platform:
            while not over.is_set():
                if not platform.life.begun.wait(FILE_S):
                    continue  # a sign of life before the session would begin one
                try:
                    signals.tell(platform.wanted(signals.wanted, every_s).wanted)
                except Superseded as error:
                    LOG.warning("%s", error)
                    return
                except AarlabError as error:
                    LOG.warning("no sign of life reached the platform: %s", error)
                    over.wait(AGAIN_S)

    def read(wanted_file: Path) -> None:
        while not over.wait(FILE_S):
            signals.tell(_told(wanted_file))

    work = beat if wanted_file is None else lambda: read(wanted_file)
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(FILE_S)  # a poll under way ends with the process


def _told(place: Path) -> Wanted:
    try:
        said = place.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return "run"
    return "stop" if said == "stop" else "pause" if said == "pause" else "run"
