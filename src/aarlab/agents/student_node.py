"""The student server of an AAR that runs on another machine: started here, for this AAR alone.

Its device is the one that the AAR's job was given: an engine sets CUDA_VISIBLE_DEVICES. On a CPU
each AAR has a server of its own. The server ends with this process, however that ends. One that
dies is started again, and makes its grants again; a trial that it was in is run again.

Covered: a device that another server has (the AAR ends with that reason, and is started again).
"""

import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from aarlab.agents.config import AarConfig, StudentAccess, StudentNode
from aarlab.core.endings import plain_reason
from aarlab.core.errors import AarlabError, Unreachable
from aarlab.executors.base import Job
from aarlab.executors.local import LocalExecutor, LocalHandle
from aarlab.students.grants import Operator
from aarlab.students.settings import DeviceSettings
from aarlab.students.task_grants import admit, when_it_answers

LOG = logging.getLogger("aarlab.agents")
LOOK_S, AGAIN_S, GRACE_S = 1.0, 5.0, 10.0


@contextmanager
def with_students(config: AarConfig) -> Iterator[AarConfig]:
    """Yield the config with a student server that runs; as it is where it asks for none here.

    Raises Unreachable, with the server's last words, if it does not start.
    """
    if not isinstance(config.students, StudentNode):
        yield config
        return
    server = _Server(config, config.students)
    server.start()
    over = threading.Event()
    keeper = threading.Thread(target=server.keep, args=(over,), daemon=True)
    keeper.start()
    try:
        yield config.model_copy(update={"students": server.access})
    finally:
        over.set()
        keeper.join()


class _Server:
    """The server's process."""

    def __init__(self, config: AarConfig, node: StudentNode) -> None:
        self._config, self._node = config, node
        self._locks = DeviceSettings().device_locks
        folder = self._locks / "aars" / node.mark
        self.access = StudentAccess(socket=folder / "s" / "socket", tokens=folder / "tokens")
        self._log = config.home / "students.log"
        self._handle: LocalHandle | None = None

    def start(self) -> None:
        device = self._node.device
        if device != "cuda":  # a CPU has a server for each AAR
            device = f"{device}:{int(self._node.mark[:7], 16)}"
        words = [sys.executable, "-m", "aarlab.students", "--device", device]
        words += ["--socket", str(self.access.socket), "--models", ",".join(self._node.models)]
        home = {"AARLAB_HOME": str(self._config.models.parent)}
        self._handle = LocalExecutor().start(Job("students", tuple(words), self._log, home))
        try:
            when_it_answers(self._admit, lambda: self._ended)
        except AarlabError as error:
            self.stop()
            raise Unreachable(
                f"no student server on {device}: {self._last_words or error}"
            ) from error

    def keep(self, over: threading.Event) -> None:
        """Start the server again whenever it has ended, until `over`; then end it.

        A server that this thread started is killed when the thread ends.
        """
        while not over.wait(LOOK_S):
            if not self._ended:
                continue
            LOG.error("the student server ended: %s", self._last_words)
            try:
                self.start()
            except AarlabError as error:
                LOG.error("%s", error)
                over.wait(AGAIN_S)
        self.stop()

    def stop(self) -> None:
        if self._handle is not None:
            self._handle.stop(GRACE_S)

    @property
    def _ended(self) -> bool:
        return self._handle is None or self._handle.poll() is not None

    @property
    def _last_words(self) -> str:
        said = self._log.read_text(encoding="utf-8", errors="replace") if self._log.exists() else ""
        return plain_reason("\n".join(said.rstrip().split("\n")[-3:]))

    def _admit(self) -> None:
        with Operator(self.access.socket, self._locks) as operator:
            admit(operator, self._config.name, self._config.tasks, self.access.tokens)
