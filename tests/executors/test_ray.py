"""The Ray executor on a real Ray: what the contract for all executors does not ask."""

import importlib.util
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from platform_kit import wait_for
from ray_cluster import RayCluster

from aarlab.executors.base import Ended, Executor, Job, NotStarted, Place, Resources
from aarlab.executors.known import executor_class

RAY_NODES = 2
Made = Callable[..., Any]


@pytest.fixture
def made(ray_package: None, tmp_path: Path) -> Iterator[Made]:
    """Make executors of one campaign; its jobs are ended with the test."""
    kind, all_of_them = executor_class("ray"), list[Executor]()

    def make(**given: object) -> Executor:
        options = kind.options.model_validate({"poll_s": 0.1, **given})
        all_of_them.append(kind(options, Place(tmp_path / "executor")))
        return all_of_them[-1]

    yield make
    for each in all_of_them:
        each.close()
    if importlib.util.find_spec("ray") is not None and (tmp_path / "executor").exists():
        left = make()
        for _, handle in left.leftovers():
            handle.stop(0.0)
        left.close()


def sleeper(folder: Path, name: str = "ada", seconds: int = 600, cpus: int = 1) -> Job:
    """A job that writes its process id into NAME.pids."""
    text = f"echo $$ >> {folder}/{name}.pids; exec sleep {seconds}"
    wants = Resources(cpus=cpus)
    return Job(name, ("sh", "-c", text), folder / f"{name}.log", resources=wants)


def pids(folder: Path, name: str = "ada") -> list[int]:
    path = folder / f"{name}.pids"
    return [int(word) for word in path.read_text().split()] if path.exists() else []


def alive(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE


def test_without_ray_it_says_which_package_is_missing(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda n: None if n == "ray" else find(n))
    executor = made()
    (said,) = executor.check(Resources())
    assert "the package ray is not installed: pip install ray" in said
    with pytest.raises(NotStarted, match="pip install ray"):
        executor.start(sleeper(tmp_path))
    assert "ray" not in sys.modules


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_no_cluster_is_said(made: Made, tmp_path: Path) -> None:
    executor = made(address="127.0.0.1:1")
    with pytest.raises(NotStarted, match=r"Ray: no head at 127\.0\.0\.1:1: .*refused"):
        executor.start(sleeper(tmp_path))


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_resources_and_options_are_checked_before_a_campaign_starts(
    made: Made, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("KEY=1\n")
    assert list(made().check(Resources(cpus=2))) == []
    said = list(made(env_file=str(keys)).check(Resources(cpus=4000, time_limit_s=60)))
    assert [text for text in said if f"chmod 600 {keys}" in text]
    assert [text for text in said if "leave `hours` out" in text]
    assert [text for text in said if "no node of Ray has {'CPU': 4000}" in text]
    assert len(said) == 3


@pytest.mark.slow
def test_a_lost_node_moves_the_job_and_its_process_is_dead(
    made: Made, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    executor = made()
    handle = executor.start(sleeper(tmp_path))
    wait_for(lambda: pids(tmp_path) and handle.begun(), 60)
    (first,) = pids(tmp_path)
    lost = ray_cluster.node_of(first)
    lost.kill()
    states = []

    def moved() -> bool:
        assert handle.poll() is None and handle.begun()
        states.append(handle.state)
        assert len(pids(tmp_path)) < 2 or not alive(first), "two at once"
        return len(pids(tmp_path)) == 2

    wait_for(moved, 60)
    second = pids(tmp_path)[1]
    assert ray_cluster.node_of(second) != lost and alive(second)
    wait_for(lambda: handle.state == "running", 30)
    handle.stop(5.0)
    assert handle.poll() == Ended(-15) and not alive(second)
    ray_cluster.add_node()


@pytest.mark.slow
def test_a_job_without_a_node_is_lost_until_there_is_one(
    made: Made, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    executor = made()
    handle = executor.start(sleeper(tmp_path, cpus=8))
    wait_for(lambda: pids(tmp_path) and handle.begun(), 60)
    other = executor.start(sleeper(tmp_path, "edda", cpus=8))
    waits = executor.start(sleeper(tmp_path, "queued", cpus=8))
    wait_for(lambda: pids(tmp_path, "edda") and other.begun(), 60)
    ray_cluster.node_of(pids(tmp_path)[0]).kill()
    wait_for(lambda: handle.state == "lost", 60)
    assert handle.poll() is None and other.state == "running"
    assert (waits.state, waits.begun(), waits.poll()) == ("queued", False, None)
    waits.stop(0.0)
    assert waits.poll() is not None and pids(tmp_path, "queued") == []
    ray_cluster.add_node()
    wait_for(lambda: len(pids(tmp_path)) == 2 and handle.state == "running", 60)


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_starting_again_finds_the_job_that_runs(made: Made, tmp_path: Path) -> None:
    first, job = made(), sleeper(tmp_path)
    handle = first.start(job)
    wait_for(lambda: pids(tmp_path) and handle.begun(), 60)
    again = made()  # as after a kill of the campaign's process
    assert again.start(job).id == handle.id == first.start(job).id
    assert [(name, each.id) for name, each in again.leftovers()] == [("ada", handle.id)]
    changed = sleeper(tmp_path, seconds=601)
    other = again.start(changed)
    assert other.id != handle.id
    wait_for(lambda: len(pids(tmp_path)) == 2, 60)
    assert [alive(pid) for pid in pids(tmp_path)] == [False, True], "another job is ended first"
    wait_for(lambda: handle.poll() is not None, 30)
    ended = handle.poll()
    assert ended is not None and ended.code is None and "ray.kill" in ended.why


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_what_talks_to_ray_may_die(made: Made, tmp_path: Path) -> None:
    """Ray ends a process that has lost the head; the campaign's own must live on."""
    executor = made()
    handle = executor.start(sleeper(tmp_path))
    wait_for(lambda: pids(tmp_path) and handle.begun(), 60)
    here = psutil.Process().children()
    (talker,) = (each for each in here if "aarlab_ray_talker.py" in " ".join(each.cmdline()))
    talker.kill()
    end = time.monotonic() + 3
    while time.monotonic() < end:
        assert handle.poll() is None and handle.begun()
        time.sleep(0.05)
    handle.stop(5.0)
    assert handle.poll() == Ended(-15) and not alive(pids(tmp_path)[0])


@pytest.mark.slow
@pytest.mark.usefixtures("ray_cluster")
def test_a_job_that_cannot_run_there_says_why(made: Made, tmp_path: Path) -> None:
    handle = made().start(Job("ada", ("true",), tmp_path / "nowhere" / "log"))
    wait_for(lambda: handle.poll() is not None, 60)
    ended = handle.poll()
    assert ended is not None and ended.code is None and "No such file" in ended.why
    assert not handle.begun()


@pytest.mark.slow
def test_keys_reach_the_job_and_ray_keeps_none(
    made: Made, tmp_path: Path, ray_cluster: RayCluster
) -> None:
    keys, secret = tmp_path / "keys", "sk-7d1fb2c3-not-for-ray"
    keys.write_text(f"MODEL_KEY='{secret}'\n")
    keys.chmod(0o600)
    text = f'printf "%s %s\\n" "$MODEL_KEY" "${{CUDA_VISIBLE_DEVICES-unset}}" > {tmp_path}/seen'
    handle = made(env_file=str(keys)).start(Job("ada", ("sh", "-c", text), tmp_path / "log"))
    wait_for(lambda: handle.poll() is not None, 60)
    assert handle.poll() == Ended(0)
    assert (tmp_path / "seen").read_text() == f"{secret} \n", "no GPU was asked for: none is seen"
    assert ray_cluster.holds(secret) == []


@pytest.mark.slow
@pytest.mark.usefixtures("ray_package")
def test_a_lost_head_is_waited_for_and_a_new_one_knows_no_job(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = RayCluster(), RayCluster()
    try:
        old.start()
        monkeypatch.setenv("RAY_ADDRESS", old.address)
        handle = made().start(sleeper(tmp_path))
        wait_for(lambda: pids(tmp_path) and handle.begun(), 60)
        old.remove()
        wait_for(lambda: not alive(pids(tmp_path)[0]), 30)
        end = time.monotonic() + 8
        while time.monotonic() < end:
            assert handle.poll() is None and handle.begun()
            time.sleep(0.05)
        new.start()
        monkeypatch.setenv("RAY_ADDRESS", new.address)
        wait_for(lambda: handle.poll() is not None, 90)
        assert handle.poll() == Ended(None, f"Ray does not know {handle.id} any more")
    finally:
        old.remove()
        new.remove()
