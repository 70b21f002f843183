"""What tools work with: sandbox, platform, the AAR's files. Time on the device is booked."""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from types import TracebackType

from aarlab.agents.config import AarConfig
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.language.state import Running
from aarlab.agents.language.store import Store
from aarlab.agents.language.tools.background import Backgrounds
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BudgetExhausted, Conflict
from aarlab.core.wire import Spend
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxSpec

LOG = logging.getLogger("aarlab.agents")
FIRST_LOOK_S, LOOK_EVERY_S, ASK_EVERY_S = 1.0, 2.0, 5.0


@dataclass
class Kit:
    """`wanted` asks the platform, over a connection of its own, what the operator wants now."""

    config: AarConfig
    spec: LanguageSpec
    platform: PlatformClient
    sandbox: SandboxSpec
    store: Store
    python: str
    backgrounds: Backgrounds
    wanted: Callable[[], str] = lambda: "run"
    running: Running | None = field(default=None)

    def run(
        self, argv: Sequence[str], key: str, stdin: bytes | None = None, timeout_s: float = 0.0
    ) -> Finished:
        """One command in the sandbox; ends early when the operator stops the AAR. Its seconds are
        booked under `key`."""
        limits = replace(self.sandbox.limits, wall_s=timeout_s or self.spec.tool_timeout_s)
        with Attendance(self) as attendance:
            done = run(replace(self.sandbox, limits=limits), argv, stdin, attendance.cancel)
        self.book(done.wall_s, key, argv[-1][:80])
        return done

    def glance(self, argv: Sequence[str]) -> Finished:
        """A quick look that is not booked."""
        limits = replace(self.sandbox.limits, wall_s=60.0)
        return run(replace(self.sandbox, limits=limits), argv)

    def book(self, seconds: float, key: str, note: str) -> None:
        """Device seconds, once a key."""
        spend = Spend(kind="device_s", amount=max(seconds, 0.0), note=note)
        try:
            self.platform.spend(spend, key=f"{key}-device")
        except (Conflict, BudgetExhausted) as error:
            LOG.info("device seconds of %s: %s", key, error)


class Attendance:
    """Looks after a command that takes long: notes that it lives, and ends it on `stop`."""

    def __init__(self, kit: Kit) -> None:
        self._kit, self.cancel = kit, threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Attendance":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        asked, pause_s = time.monotonic(), FIRST_LOOK_S
        while not self._done.wait(pause_s):
            pause_s = LOOK_EVERY_S
            try:
                if self._kit.running is not None:
                    self._kit.store.still_running(self._kit.running)
                if time.monotonic() - asked >= ASK_EVERY_S:
                    asked = time.monotonic()
                    if self._kit.wanted() == "stop":
                        self.cancel.set()
            except (AarlabError, OSError) as error:
                LOG.warning("while a command ran: %s", error)
