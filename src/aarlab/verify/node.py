"""`python -m aarlab.verify.node`: do re-runs that a verification pod claims, on its machine.

It claims re-runs of the platform, as many as it has slots, renews their leases, and settles them.
It holds the pod's key, which opens what a claimed re-run reads and no more: no operator's token, no
label, no score, no vault. Ablations, audits, reviews and ranking stay with the campaign's verifier.

Covered: a lease that was lost, whose re-run is cut short; a newer process of the pod, which ends
this one (exit code 75); SIGTERM, after which what ran is given back at once; a machine that lacks
the campaign's isolation, tasks or models, which ends it before a re-run is begun.
Not covered: SIGKILL and a lost machine: leases end by themselves.
"""

import argparse
import logging
import sys
import threading
from collections.abc import Collection
from contextlib import closing, suppress
from pathlib import Path

from aarlab.client.transport import Address
from aarlab.client.verifier import VerifierClient
from aarlab.core.errors import AarlabError, Superseded
from aarlab.core.isolation import SANDBOX_KINDS
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.logs import log_to_stderr
from aarlab.core.supervision import SUPERSEDED
from aarlab.core.wire import SnapshotContent, Verification, VerificationResult
from aarlab.core.wire_verifiers import LEASE_S
from aarlab.sandbox.probe import probe
from aarlab.sandbox.running import Cancel
from aarlab.verify.__main__ import stopped_by_signals
from aarlab.verify.bench import Bench
from aarlab.verify.bringing import Brought
from aarlab.verify.rerun import Verifier, seeds_at_once
from aarlab.verify.strong import StrongModels

LOG = logging.getLogger("aarlab.verify")
RENEW_S = LEASE_S / 5
GIVE_BACK_S = 5.0


class PodDesk:
    """The re-runs that this process of a pod holds."""

    def __init__(self, given: argparse.Namespace, brought: Brought, stop: threading.Event) -> None:
        self._given, self._brought, self._stop = given, brought, stop
        self._key = given.key_file.read_text(encoding="utf-8").strip()
        self._lock = threading.Lock()
        self._held: dict[str, Held] = {}
        self.superseded: Superseded | None = None
        self._renewing = threading.Thread(target=self._renew, daemon=True)

    def begin(self) -> None:
        self._renewing.start()

    def client(self, deadline_s: float = 300.0) -> VerifierClient:
        given = self._given
        address = Address(given.url or given.socket, given.ca)
        return VerifierClient(address, self._key, given.pod, given.number, deadline_s)

    def due(self, busy: Collection[str], free: int) -> list[Verification]:
        found = list[Verification]()
        with self.client() as platform:
            while len(found) < free:
                wanted = platform.claim({*busy, *(one.id for one in found)})
                if wanted is None:
                    break
                LOG.info("%s %s %s: begun", wanted.id, wanted.method, wanted.ablation)
                with self._lock:
                    self._held[wanted.id] = Held(self._stop)
                found.append(wanted)
        return found

    def code(self, wanted: Verification) -> SnapshotContent:
        with self.client() as platform:
            self._brought.bring(platform, wanted, self.until(wanted))
            return platform.snapshot(wanted.id)

    def until(self, wanted: Verification) -> Cancel:
        return self._held[wanted.id]

    def settle(self, wanted: Verification, result: VerificationResult) -> None:
        with self.client() as platform:
            platform.settle(wanted.id, result)

    def leave(self, wanted: Verification) -> None:
        with self._lock:
            self._held.pop(wanted.id, None)

    def give_back(self) -> None:
        """End all leases of this process: what ran may be taken at once."""
        with suppress(AarlabError), self.client(GIVE_BACK_S) as platform:
            platform.release()

    def _renew(self) -> None:
        """Renew what is held; cut short what another has, or all of an older process."""
        pause = threading.Event()
        with self.client(LEASE_S / 2) as platform:
            while not pause.wait(RENEW_S):
                with self._lock:
                    held = dict(self._held)
                try:
                    mine = set(platform.renew(held)) if held else set(held)
                except Superseded as error:
                    self.superseded = error
                    self._stop.set()
                    return
                except AarlabError as error:
                    LOG.warning("no lease was renewed: %s", error)
                    continue
                for name in held.keys() - mine:
                    held[name].lost.set()


class Held:
    """A claimed re-run: set when it is to be cut short."""

    def __init__(self, stop: threading.Event) -> None:
        self._stop, self.lost = stop, threading.Event()

    def is_set(self) -> bool:
        return self.lost.is_set() or self._stop.is_set()


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m aarlab.verify.node", description=__doc__)
    parser.add_argument("--pod", required=True)
    parser.add_argument("--number", type=int, required=True, help="of this process of the pod")
    parser.add_argument("--run", type=Path, required=True, help="a folder of this machine")
    parser.add_argument("--root", type=Path, required=True, help="the data root of this machine")
    parser.add_argument("--key-file", type=Path, required=True)
    parser.add_argument("--socket", type=Path)
    parser.add_argument("--url")
    parser.add_argument("--ca", type=Path)
    parser.add_argument("--isolation", choices=SANDBOX_KINDS, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--memory-mb", type=int, default=0)
    parser.add_argument("--students", type=Path, action="append", default=[], help="their sockets")
    parser.add_argument("--poll-s", type=float, default=1.0)
    return parser.parse_args(arguments)


def main(arguments: list[str], stop: threading.Event | None = None) -> int:
    """Work until `stop`, which SIGTERM sets; return the exit code."""
    given, stop = parsed(arguments), stop or threading.Event()
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")
    run = RunDir(given.run.absolute())
    here = run.bound(DataRoot(given.root.absolute()))
    root = run.bound(DataRoot(run.path / "material"))
    try:
        probe(given.isolation)
        desk = PodDesk(given, Brought(root, here), stop)
        try:
            desk.begin()
            with closing(Bench(run.verifier, _verifiers(given, run, root), desk, stop)) as bench:
                while not stop.is_set():
                    bench.start_queued()
                    bench.collect(given.poll_s)
                    if bench.idle:
                        stop.wait(given.poll_s)
        finally:
            if desk.superseded is None:
                desk.give_back()
        if desk.superseded is not None:
            raise desk.superseded
    except Superseded as error:
        LOG.error("the verifier stopped: %s", error)
        return SUPERSEDED
    except (AarlabError, OSError):
        LOG.exception("the verifier stopped")
        return 1
    return 0


def _verifiers(given: argparse.Namespace, run: RunDir, root: DataRoot) -> list[Verifier]:
    """Return a verifier for each slot; they take turns among the pod's student servers."""
    strong = [StrongModels(socket) for socket in given.students] or [StrongModels()]
    slots = max(given.parallel, len(strong))
    return [
        Verifier(
            run,
            root,
            given.isolation,
            slot,
            given.memory_mb,
            seeds_at_once(slots),
            strong=strong[slot % len(strong)],
        )
        for slot in range(slots)
    ]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], stopped_by_signals()))
