"""The verifier's work: queued re-runs in several slots at once, in an order that is fair.

What is settled is recorded under a key of its own: a re-run that was cut short, by a stop or a
kill, is still queued on the platform and is done again from its start.

Covered: predictions that the platform refuses (other rows, other seeds), and a workspace that
cannot be read, written or removed, settle the re-run as failed: no method stops the verifier.
Faults of the machine (a full disk, no descriptors left) do.
"""

import logging
import queue
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from aarlab.client.operator import OperatorClient
from aarlab.core.errors import BadInput, Conflict
from aarlab.core.layout import RunDir
from aarlab.core.wire import SnapshotContent, Verification, VerificationResult
from aarlab.sandbox.workspace import OF_THE_MACHINE, WorkspaceState, discard_tree
from aarlab.verify.battery import ABLATIONS
from aarlab.verify.rerun import Stopped, Verifier

LOG = logging.getLogger("aarlab.verify")


def operator(run: RunDir) -> OperatorClient:
    return OperatorClient.over_socket(
        run.socket, (run.tokens / "operator").read_text(encoding="utf-8").strip()
    )


def in_turn(queued: Sequence[Verification]) -> list[Verification]:
    """Order re-runs before ablations, cheap ablations first; among equals the AARs take turns.

    An AAR that asks for a hundred re-runs delays the second one of another by one, not by all.
    """
    order: dict[str, int] = {"none": 0} | {kind: at for at, kind in enumerate(ABLATIONS, 1)}
    before: Counter[tuple[str, str]] = Counter()
    places = []
    for wanted in queued:
        places.append((order[wanted.ablation], before[wanted.ablation, wanted.aar]))
        before[wanted.ablation, wanted.aar] += 1
    return [queued[at] for at in sorted(range(len(queued)), key=places.__getitem__)]


class Bench:
    """Do as many re-runs at once as there are verifiers; `stop` cancels those that run."""

    def __init__(self, run: RunDir, verifiers: Sequence[Verifier], stop: threading.Event) -> None:
        self._run, self._stop = run, stop
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
        if len(self._busy) >= self._slots:
            return
        with operator(self._run) as platform:
            queued = platform.verifications("queued")
        for wanted in in_turn([v for v in queued if v.id not in self._busy]):
            if len(self._busy) >= self._slots:
                return
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
        verifier = self._free.get()
        try:
            with operator(self._run) as platform:
                content = platform.snapshot(wanted.snapshot)
                result = _settled(platform, wanted, self._rerun(verifier, wanted, content))
        except Stopped:
            return
        except Conflict as error:  # an answer that was lost: what is settled stays as it is
            LOG.warning("%s", error)
            return
        finally:
            discard_tree(self._run.verifier / wanted.id)
            self._free.put(verifier)
        LOG.info("%s %s %s: %s", wanted.id, wanted.method, wanted.ablation, result.error or "done")

    def _rerun(
        self, verifier: Verifier, wanted: Verification, content: SnapshotContent
    ) -> VerificationResult:
        """Return the verifier's result; a workspace that it cannot use gives a failed one."""
        try:
            return verifier.rerun(wanted, content, self._stop)
        except WorkspaceState as error:
            return unusable(verifier, error)
        except OSError as error:
            if error.errno is None or error.errno in OF_THE_MACHINE:
                raise
            LOG.exception("%s: its workspace", wanted.id)
            return unusable(verifier, error)


def unusable(verifier: Verifier, error: Exception) -> VerificationResult:
    """Return a failed re-run of a method that left its workspace in an unusable state."""
    return VerificationResult(
        isolation=verifier.isolation, error=f"its workspace cannot be used: {error}"[:4000]
    )


def _settled(
    platform: OperatorClient, wanted: Verification, result: VerificationResult
) -> VerificationResult:
    """Record and return `result`, or that the platform refused what the method left."""
    key = f"settle-{wanted.id}"  # what is refused leaves it free
    try:
        platform.settle(wanted.id, result, key)
    except BadInput as error:
        failed = {"ids": [], "runs": [], "error": f"its predictions were refused: {error}"[:4000]}
        result = result.model_copy(update=failed)
        platform.settle(wanted.id, result, key)
    return result
