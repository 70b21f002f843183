"""A verifier beside the AARs: it polls, gives way, stops cleanly, and finishes when told to."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from arena import Arena, open_arena
from hacks import MAJORITY
from platform_kit import wait_for

from aarlab.core.rerun_order import in_turn
from aarlab.core.wire import Verification
from aarlab.verify import __main__ as verifier

SLOW = "import time\n\ndef fit(task, student, seed):\n    time.sleep(60)\n"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory):
    with open_arena(tmp_path_factory.mktemp("follow")) as made:
        yield made


def start(arena: Arena, *options: str) -> subprocess.Popen[bytes]:
    run, root = arena.running.run, arena.running.task.data
    words = ["--run", str(run.path), "--root", str(root.path), "--poll-s", "0.1", *options]
    with (run.path / "verifier.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aarlab.verify", *words], stdout=log, stderr=log
        )


def state_of(arena: Arena, method: str) -> str:
    with arena.running.operator() as operator:
        runs = operator.verifications()
    return next(v.state for v in runs if v.snapshot == arena.snapshots[method])


def kinds(arena: Arena) -> set[str]:
    with arena.running.operator() as operator:
        return {audit.kind for audit in operator.audits()}


def test_it_works_beside_the_aars_and_finishes_when_told_to(arena: Arena, tmp_path: Path) -> None:
    last_call = tmp_path / "no-more"
    follower = start(arena, "--until", str(last_call), "--nice", "5", "--ablate-top", "1")
    try:
        time.sleep(0.5)
        arena.hand_in("mo", "majority", MAJORITY)
        for _ in range(2):
            arena.submit("mo", "majority", [0.3] * len(arena.ids))
        wait_for(lambda: state_of(arena, "majority") == "done", 60)
        wait_for(lambda: {"static", "shortcut", "ablation"} <= kinds(arena), 60)
        assert "forensics" not in kinds(arena), "it may change while the AAR works on"
        mine = os.getpriority(os.PRIO_PROCESS, 0)
        assert os.getpriority(os.PRIO_PROCESS, follower.pid) == min(mine + 5, 19)
        assert follower.poll() is None
        arena.hand_in("mo", "second", f"{MAJORITY}\n# again\n")
        last_call.touch()
        assert follower.wait(60) == 0
        assert state_of(arena, "second") == "done" and "forensics" in kinds(arena)
    finally:
        follower.kill()
        follower.wait()


def test_a_stop_cuts_a_re_run_short_and_leaves_it_queued(arena: Arena) -> None:
    follower = start(arena, "--follow")
    try:
        arena.hand_in("slow", "slow", SLOW)
        folder = arena.running.run.verifier
        wait_for(lambda: any(folder.glob("ver_*/*/job.json")), 30)
        begun = time.monotonic()
        follower.send_signal(signal.SIGTERM)
        assert follower.wait(20) == 0 and time.monotonic() - begun < 10
        assert state_of(arena, "slow") == "queued"
        assert not any(folder.glob("ver_*"))
    finally:
        follower.kill()
        follower.wait()


def test_one_verifier_at_a_time(arena: Arena, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    monkeypatch.setattr(verifier, "LOCK_S", 0.1)
    run, root = arena.running.run, arena.running.task.data
    with verifier._alone(run):
        assert verifier.main(["--run", str(run.path), "--root", str(root.path)]) == 1
    assert "another verifier works on" in caplog.text


def queued(aar: str, ablation: str = "none") -> Verification:
    return Verification(
        id=f"{aar}-{ablation}",
        snapshot="s",
        aar=aar,
        method="m",
        task="t",
        split="selection",
        ablation=ablation,
        run_seeds=[1],
        state="queued",
    )


def test_an_aar_that_asks_for_many_re_runs_holds_up_no_other() -> None:
    asked = [queued("ann", "flipped"), *[queued("ann")] * 5, queued("bea"), queued("bea", "noise")]
    order = [(v.aar, v.ablation) for v in in_turn(asked)]
    assert order[:3] == [("ann", "none"), ("bea", "none"), ("ann", "none")]
    assert order[-2:] == [("bea", "noise"), ("ann", "flipped")]
