"""An AAR cannot fill the platform's disk with snapshots; a repeated request is no new one."""

import base64

import pytest
from platform_kit import TinyTask, platform

from aarlab.core.errors import BudgetExhausted
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewSnapshot, SnapshotFile


def snapshot(letter: str, n_bytes: int = 4000) -> NewSnapshot:
    content = base64.b64encode(letter.encode() * n_bytes).decode()
    return NewSnapshot(name=letter, files=[SnapshotFile(path="method.py", content_b64=content)])


def test_all_snapshots_of_an_aar_have_a_cap(
    tiny: TinyTask, run_dir: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AARLAB_SERVER_SNAPSHOT_BYTES", "10000")
    with platform(tiny, run_dir, "--task", "tiny") as running, running.aar("ann") as ann:
        first = ann.put_snapshot(snapshot("a"), key="1")
        second = ann.put_snapshot(snapshot("b"), key="2")
        with pytest.raises(BudgetExhausted, match="take 8,000 of 10,000 bytes"):
            ann.put_snapshot(snapshot("c"), key="3")
        assert ann.put_snapshot(snapshot("b"), key="2").id == second.id
        assert ann.put_snapshot(snapshot("d", 2000), key="4").n_bytes == 2000
        assert ann.put_snapshot(snapshot("a"), key="1").id == first.id, "full, and sent again"
        with running.aar("bea") as bea:
            assert bea.put_snapshot(snapshot("e")).aar == "bea", "no other AAR's concern"
