"""A verified run of method files by the real verifier, without a platform around it."""

import base64
from collections.abc import Mapping, Sequence
from pathlib import Path

from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import (
    Ablation,
    Snapshot,
    SnapshotContent,
    SnapshotFile,
    Verification,
    VerificationResult,
)
from aarlab.verify.basis import Basis
from aarlab.verify.rerun import Verifier

SNAPSHOT = "a" * 40


def content(files: Mapping[str, str]) -> SnapshotContent:
    """A snapshot of these texts by path."""
    made = [
        SnapshotFile(path=path, content_b64=base64.b64encode(text.encode()).decode())
        for path, text in files.items()
    ]
    size = sum(len(text.encode()) for text in files.values())
    about = {"id": SNAPSHOT, "aar": "own", "name": "mine", "message": "", "parent": None}
    snapshot = Snapshot(**about, at="", n_files=len(made), n_bytes=size)
    return SnapshotContent(snapshot=snapshot, files=made)


def wanted(
    task: str, seeds: Sequence[int], ablation: Ablation = "none", method: str = "mine"
) -> Verification:
    """A queued run on the selection split."""
    return Verification(
        id="ver_1",
        snapshot=SNAPSHOT,
        aar="own",
        method=method,
        task=task,
        split="selection",
        ablation=ablation,
        run_seeds=list(seeds),
        state="queued",
    )


def verified(
    root: DataRoot,
    place: Path,
    files: Mapping[str, str],
    run: Verification,
    basis: Basis = "secret",
    at_once: int = 1,
) -> VerificationResult:
    """The result of one run; `place` is where its sandboxes have their workspaces."""
    verifier = Verifier(RunDir(place), root, "bubblewrap", 0, at_once=at_once, basis=basis)
    return verifier.rerun(run, content(files))
