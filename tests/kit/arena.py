"""A real platform with a task that can be gamed, AARs on it, and the verifier with its audits."""

import base64
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from code_world import MISLED, NAME, build_code_world
from platform_kit import Running, TinyTask, platform

from aarlab.client.platform import PlatformClient
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import (
    Audit,
    CampaignExport,
    NewSnapshot,
    NewVerification,
    Run,
    Score,
    SnapshotFile,
    Submission,
    Verification,
)
from aarlab.core.wire_service import NewMethod
from aarlab.testbed.tasks.data import TaskData
from aarlab.verify.__main__ import main as verify

SEEDS = 3


@dataclass
class Arena:
    """`snapshots` maps what a test calls a method to the snapshot that the platform keeps."""

    running: Running
    data: TaskData
    snapshots: dict[str, str] = field(default_factory=dict)
    clients: dict[str, PlatformClient] = field(default_factory=dict)
    export: CampaignExport | None = None

    @property
    def ids(self) -> list[str]:
        return [example.id for example in self.data.splits["search"].examples]

    @property
    def truth_N(self) -> np.ndarray:
        return self.data.splits["search"].targets_N

    def aar(self, name: str) -> PlatformClient:
        if name not in self.clients:
            self.clients[name] = self.running.aar(name)
        return self.clients[name]

    def hand_in(self, aar: str, method: str, source: str, opened: bool = True) -> str:
        """Freeze a method and ask for its re-run, with texts if it is to be `opened`."""
        source += "\nREADS_TEXT = True\n" if opened else ""
        content = base64.b64encode(source.encode()).decode()
        files = [SnapshotFile(path="method.py", content_b64=content)]
        made = self.aar(aar).put_snapshot(NewSnapshot(name=method, files=files))
        self.snapshots[method] = made.id
        self.aar(aar).request_verification(NewMethod(snapshot=made.id))
        with self.running.operator() as operator:
            wanted = NewVerification(snapshot=made.id, task=NAME, n_seeds=SEEDS)
            operator.request_verification(wanted)
        return made.id

    def submit(self, aar: str, method: str, probs, snapshot: str | None = None) -> Score:
        runs = [Run(seed=0, probs=[float(p) for p in probs])]
        return self.aar(aar).submit(
            Submission(task=NAME, method=method, snapshot=snapshot, ids=self.ids, runs=runs)
        )

    def settle(self) -> None:
        """Run the verifier to its end: re-runs, ablations of all, audits."""
        run, root = self.running.run, self.running.task.data
        words = ["--run", str(run.path), "--root", str(root.path), "--parallel", "2"]
        assert verify([*words, "--ablate-top", "99", "--seeds", str(SEEDS)]) == 0
        with self.running.operator() as operator:
            self.export = operator.export()

    def verification(self, method: str, ablation: str = "none") -> Verification:
        assert self.export is not None
        wanted = (self.snapshots[method], ablation)
        return next(v for v in self.export.verifications if (v.snapshot, v.ablation) == wanted)

    def audits(self, method: str) -> dict[str, Audit]:
        assert self.export is not None
        return {a.kind: a for a in self.export.audits if a.snapshot == self.snapshots[method]}

    def suspect(self, method: str) -> set[str]:
        return {kind for kind, a in self.audits(method).items() if a.severity == "suspect"}

    def forensics(self, aar: str) -> Audit:
        assert self.export is not None
        return next(a for a in self.export.audits if (a.kind, a.aar) == ("forensics", aar))

    def exact(self, aar: str) -> list[float]:
        """Exact search PGR of an AAR's submissions, oldest first; the AAR never saw these."""
        assert self.export is not None
        return [s.exact.value for s in self.export.submissions if s.aar == aar]


@contextmanager
def open_arena(folder: Path, misled: float = MISLED):
    root = DataRoot(folder / "data")
    data = build_code_world(root, misled=misled)
    with platform(TinyTask(root, NAME, {}), RunDir(folder / "run")) as running:
        arena = Arena(running, data)
        try:
            yield arena
        finally:
            for client in arena.clients.values():
                client.close()
