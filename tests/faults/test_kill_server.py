"""`kill -9` of the server in the middle of requests: what was acknowledged is there, once."""

import random
import threading
import time
from collections import Counter

import pytest
from platform_kit import Running, TinyTask, spawn, start, stop

from aarlab.client.platform import PlatformClient
from aarlab.client.transport import health
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewFinding, NewSnapshot, SnapshotFile, Spend
from aarlab.store.log import verify_log

CLIENTS = 3


def writes(running: Running, name: str, done: threading.Event, kept: list[str]) -> None:
    """Post, freeze, spend and submit, each under its own key, until told to stop."""
    token = running.token(name)
    with PlatformClient(running.address, token, deadline_s=120) as aar:
        for number in range(10**6):
            if done.is_set():
                return
            key = f"{name}-{number}"
            finding = NewFinding(kind="insight", title=key, text="t")
            kept.append(aar.post_finding(finding, key=f"{key}-finding").id)
            code = SnapshotFile(path="method.py", content_b64="")
            kept.append(aar.put_snapshot(NewSnapshot(name=key, files=[code]), key=f"{key}-s").id)
            aar.spend(Spend(kind="device_s", amount=1), key=f"{key}-spend")
            submission = running.submission(0.6, seed=number, method=key)
            kept.append(aar.submit(submission, key=f"{key}-submission").submission)


def kill_and_start_again(running: Running, times: int, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(times):
        time.sleep(rng.uniform(0.0, 0.8))
        running.process.kill()
        running.process.wait()
        running.process = spawn(running.task, running.run)
        health(running.address, deadline_s=30)


def hammer(tiny: TinyTask, run: RunDir, times: int) -> None:
    running, done = start(tiny, run), threading.Event()
    kept: dict[str, list[str]] = {f"aar-{i}": [] for i in range(CLIENTS)}
    threads = [
        threading.Thread(target=writes, args=(running, name, done, ids))
        for name, ids in kept.items()
    ]
    try:
        for thread in threads:
            thread.start()
        kill_and_start_again(running, times, seed=times)
        done.set()
        for thread in threads:
            thread.join(150)
        check(running, kept)
    finally:
        done.set()
        stop(running.process)


def check(running: Running, kept: dict[str, list[str]]) -> None:
    with running.operator() as operator:
        export = operator.export()
    stored = Counter(f.id for f in export.findings)
    stored += Counter(s.id for s in export.snapshots) + Counter(s.id for s in export.submissions)
    acknowledged = [made for ids in kept.values() for made in ids]
    assert len(acknowledged) > 3 * CLIENTS, "the clients got nowhere"
    assert set(acknowledged) <= set(stored)
    methods = Counter(s.method for s in export.submissions)
    titles = Counter(f.title for f in export.findings)
    assert max(methods.values()) == max(titles.values()) == 1
    for aar in export.aars:
        made = sum(s.aar == aar.name for s in export.submissions)
        assert aar.spend["device_s"] in (made, made + 1)
    verify_log(running.run.database)


def test_ten_kills_lose_and_double_nothing(tiny: TinyTask, tmp_path) -> None:
    hammer(tiny, RunDir(tmp_path / "run"), 10)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_kills_lose_and_double_nothing(tiny: TinyTask, tmp_path) -> None:
    hammer(tiny, RunDir(tmp_path / "run"), 100)
