"""Claude Code in jobs of Slurm: it reaches the platform over TLS, and outlives its node."""

import secrets
from pathlib import Path

import claude_moved
import claude_talk
import lost_node
import pytest
from fake_models import FakeModels
from slurm import Slurm

from aarlab.core.layout import DataRoot, RunDir

pytest.importorskip("claude_agent_sdk")
pytestmark = pytest.mark.gate


def test_it_reaches_the_platform_over_tls(
    slurm: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run")
    monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)  # nodes alone have it
    with FakeModels(claude_talk.walker) as fake:
        keys = lost_node.key_file(tmp_path, fake, f"ANTHROPIC_BASE_URL={fake.anthropic_url}")
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        spec = claude_moved.spec_of(fake, {"name": "slurm", "options": options})
        course = lost_node.Course(toy_root, tmp_path, spec, slurm.where)
        try:
            course.end()
        finally:
            course.kill()
        claude_moved.check_whole(run, fake, kills=0)


def test_a_kept_pod_loses_its_node(
    cluster: Slurm, toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, nodes, secret = RunDir(tmp_path / "run"), tmp_path / "nodes", secrets.token_hex(16)
    monkeypatch.setenv("AARLAB_POD_SECRET", secret)
    with FakeModels(claude_talk.walker, lost_node.THINKS) as fake:
        own = [f"AARLAB_POD_SECRET={secret}", f'AARLAB_POD_FOLDER="{nodes}/$SLURMD_NODENAME"']
        own.append(f"ANTHROPIC_BASE_URL={fake.anthropic_url}")
        keys = lost_node.key_file(tmp_path, fake, *own)
        options = {"host": "127.0.0.1", "poll_s": 0.5, "env_file": str(keys)}
        executor = {"name": "slurm", "options": options, "aars_per_pod": 1, "state": "kept"}
        spec = claude_moved.spec_of(fake, executor)
        course = lost_node.Course(toy_root, tmp_path, spec, cluster.where)
        try:
            course.until(lambda: fake.counts().n_paid >= 5)
            first = cluster.where()["pod-1"]
            cluster.lose(first)
            course.end()
        finally:
            course.kill()
            lost_node.log_of_kept(run, "pod-1").unlink(missing_ok=True)
        claude_moved.check_whole(run, fake, kills=1, nodes=nodes)
    assert len(course.seen["pod-1"]) == 2 and course.seen["pod-1"][0] == first
    assert claude_moved.told_of_moves(run) == 1
    assert lost_node.events(run, "process_crashed") == [], "a lost node is no crash"
