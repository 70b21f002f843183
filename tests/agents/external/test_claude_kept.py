"""Claude Code in a pod that shares no folder: it goes on where nothing of it is left."""

from pathlib import Path

import claude_moved
import claude_talk
import lost_node
import pytest
from fake_models import FakeModels
from toy_campaign import processes_of

from aarlab.core.layout import DataRoot, RunDir

pytest.importorskip("claude_agent_sdk")
pytestmark = pytest.mark.gate


def test_its_pod_is_killed_and_its_folder_removed(
    toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, nodes = RunDir(tmp_path / "run"), tmp_path / "nodes"
    monkeypatch.setenv("AARLAB_POD_FOLDER", str(nodes))
    with FakeModels(claude_talk.walker, lost_node.THINKS) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.anthropic_url)
        executor = {"name": "local", "aars_per_pod": 1, "state": "kept"}
        course = lost_node.Course(toy_root, tmp_path, claude_moved.spec_of(fake, executor), dict)
        try:
            for n_calls in (4, 9):
                course.until(lambda n=n_calls: fake.counts().n_paid >= n)
                lost_node.kill_kept(run, nodes, "pod-1")
            course.end()
        finally:
            course.kill()
        claude_moved.check_whole(run, fake, kills=2, nodes=nodes)
    assert claude_moved.told_of_moves(run) == 2
    assert processes_of(run.path) == processes_of(nodes) == []
