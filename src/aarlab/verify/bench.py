"""The verifier's work: queued re-runs in several slots at once, in an order that is fair.

What is settled is recorded under a key of its own: a re-run that was cut short, by a stop or a
kill, is still queued on the platform and is done again from its start. A desk says where re-runs
come from: the platform's queue, or what a verification pod has claimed (`node`).

Covered: predictions that the platform refuses (other rows, other seeds), and a workspace that
cannot be read, written or removed, settle the re-run as failed: no method stops the verifier.
Faults of the machine (a full disk, no descriptors left) do.
"""

import logging
import queue
import threading
from collections.abc import Collection, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Protocol

from aarlab.client.operator import OperatorClient
from aarlab.core.errors import BadInput, Conflict
from aarlab.core.layout import RunDir
from aarlab.core.rerun_order import in_turn
from aarlab.core.wire import SnapshotContent, Verification, VerificationResult
from aarlab.sandbox.running import Cancel
from aarlab.sandbox.workspace import OF_THE_MACHINE, WorkspaceState, discard_tree
from aarlab.verify.rerun import Stopped, Verifier, unusable

LOG = logging.getLogger("aarlab.verify")


class Desk(Protocol):
    """Where re-runs come from, and where their results go. Slots ask it at the same time."""

    def due(self, busy: Collection[str], free: int) -> list[Verification]:
        """Return up to `free` re-runs to begin, besides those that are `busy`."""
        ...

    def code(self, wanted: Verification) -> SnapshotContent:
        """Return the method of a re-run, once this machine has all that the re-run reads."""
        ...

    def until(self, wanted: Verification) -> Cancel:
        """Return what is set when the re-run is to be cut short."""
        ...

    def settle(self, wanted: Verification, result: VerificationResult) -> None:
        """Record a result. Raises BadInput for one that cannot be scored."""
        ...

    def leave(self, wanted: Verification) -> None:
        """Note that a re-run has ended, settled or not."""
        ...


def operator(run: RunDir) -> OperatorClient:
    return OperatorClient.over_socket(
        run.socket, (run.tokens / "operator").read_text(encoding="utf-8").strip()
    )


class OperatorDesk:
    """The platform's queue, asked with the operator's token."""

    def __init__(self, run: RunDir, stop: threading.Event) -> None:
        self._run, self._stop = run, stop

    def due(self, busy: Collection[str], free: int) -> list[Verification]:
        with operator(self._run) as platform:
            queued = platform.verifications("queued")
        return in_turn([one for one in queued if one.id not in busy])[:free]

    def code(self, wanted: Verification) -> SnapshotContent:
        with operator(self._run) as platform:
            return platform.snapshot(wanted.snapshot)

    def until(self, wanted: Verification) -> Cancel:
        return self._stop

    def settle(self, wanted: Verification, result: VerificationResult) -> None:
        with operator(self._run) as platform:  # what is refused leaves the key free
            platform.settle(wanted.id, result, f"settle-{wanted.id}")

    def leave(self, wanted: Verification) -> None:
        """Do nothing: one that was not settled is still queued."""


class Followed:
    """The re-runs of a campaign whose verification pods do them: nothing is begun here."""

    def __init__(self, run: RunDir, stop: threading.Event) -> None:
        self._run, self._stop = run, stop
        self._left, self._settled = set[str](), 0
        self._seq, self._seen = 0, ""

    @property
    def idle(self) -> bool:
        return not self._left

    def start_queued(self) -> None:
        """Look what is left."""
        with operator(self._run) as platform:
            new = platform.changes(self._seq, self._seen)
            if self._seen == "" or {"verification", "verified"} & set(new.kinds):
                self._left = {one.id for one in platform.verifications("queued")}
                self._settled += "verified" in new.kinds
        self._seq, self._seen = new.seq, new.seen

    def collect(self, timeout_s: float) -> int:
        """Return above 0 if any was settled since the last call; wait where some are left."""
        if self._left and not self._settled:
            self._stop.wait(timeout_s)
        found, self._settled = self._settled, 0
        return found

    def close(self) -> None:
        """Do nothing: pods are ended by the campaign."""


class Bench:
    """Do as many re-runs at once as there are verifiers; `close` cancels those that run."""

    def __init__(
        self, folder: Path, verifiers: Sequence[Verifier], desk: Desk, stop: threading.Event
    ) -> None:
        self._folder, self._desk, self._stop = folder, desk, stop
        self._free: queue.SimpleQueue[Verifier] = queue.SimpleQueue()
        for verifier in verifiers:
            self._free.put(verifier)
        self._slots = len(verifiers)
        self._pool = ThreadPoolExecutor(len(verifiers))
        self._busy: dict[str, Future[None]] = {}

    @property
    def idle(self) -> bool:
        return not self._busy

    def start_queued(self) -> None:
        """Start what is queued, as far as slots are free."""
        if free := self._slots - len(self._busy):
            for wanted in self._desk.due(self._busy, free):
                self._busy[wanted.id] = self._pool.submit(self._settle, wanted)

    def collect(self, timeout_s: float) -> int:
        """Wait for the next to end and return how many did.

        Raises what went wrong outside a sandbox.
        """
        if self._busy:
            wait(self._busy.values(), timeout_s, FIRST_COMPLETED)
        ended = {name: future for name, future in self._busy.items() if future.done()}
        for name, future in ended.items():
            del self._busy[name]
            future.result()
        return len(ended)

    def close(self) -> None:
        """Return when no sandbox is left; nothing is recorded for those that were cancelled."""
        self._stop.set()
        self._pool.shutdown()

    def _settle(self, wanted: Verification) -> None:
        verifier, desk = self._free.get(), self._desk
        try:
            content = desk.code(wanted)
            result = _settled(desk, wanted, self._rerun(verifier, wanted, content))
        except Stopped:
            return
        except Conflict as error:  # an answer that was lost: what is settled stays as it is
            LOG.warning("%s", error)
            return
        finally:
            discard_tree(self._folder / wanted.id)
            desk.leave(wanted)
            self._free.put(verifier)
        LOG.info("%s %s %s: %s", wanted.id, wanted.method, wanted.ablation, result.error or "done")

    def _rerun(
        self, verifier: Verifier, wanted: Verification, content: SnapshotContent
    ) -> VerificationResult:
        """Return the verifier's result; a workspace that it cannot use gives a failed one."""
        try:
            return verifier.rerun(wanted, content, self._desk.until(wanted))
        except WorkspaceState as error:
            return unusable(verifier, error)
        except OSError as error:
            if error.errno is None or error.errno in OF_THE_MACHINE:
                raise
            LOG.exception("%s: its workspace", wanted.id)
            return unusable(verifier, error)


def _settled(desk: Desk, wanted: Verification, result: VerificationResult) -> VerificationResult:
    """Record and return `result`, or that the platform refused what the method left."""
    try:
        desk.settle(wanted, result)
    except BadInput as error:
        failed = {"ids": [], "runs": [], "error": f"its predictions were refused: {error}"[:4000]}
        result = result.model_copy(update=failed)
        desk.settle(wanted, result)
    return result
