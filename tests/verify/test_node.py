"""The verifier of a pod: what it needs, what it does, and how it ends."""

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from arena import Arena, open_arena
from code_world import NAME
from hacks import MAJORITY
from platform_kit import wait_for

from aarlab.client.verifier import VerifierClient
from aarlab.core.hashing import content_hash
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.supervision import verifier_key
from aarlab.core.wire import Verification, VerificationResult
from aarlab.testbed.tasks.material import material_of
from aarlab.verify.bench import operator
from aarlab.verify.hidden import held_for, hidden_files
from aarlab.verify.rerun import Verifier

SLOW = "import time\n\ndef fit(task, student, seed):\n    time.sleep(60)\n"
HONEST = """
def fit(task, student, seed):
    return student.new().fit(task.inputs, task.weak_labels_N)
"""
POD = "verifiers-1"


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory):
    with open_arena(tmp_path_factory.mktemp("node")) as made:
        yield made


class Pod:
    """A process of `aarlab.verify.node`, on a machine whose data root has no vault."""

    def __init__(self, arena: Arena, folder: Path, name: str = POD, **env: str) -> None:
        self.arena, self.run, self.name = arena, RunDir(folder / "pod"), name
        root = arena.running.task.data
        self.root = DataRoot(folder / "data")
        if not self.root.public.exists():
            shutil.copytree(root.public, self.root.public)
        self.run.path.mkdir(exist_ok=True)
        key = self.run.path / "key"
        key.write_text(verifier_key(arena.running.operator_token, name))
        with VerifierClient(arena.running.address, key.read_text(), name) as client:
            self.number = client.join().number
        words = ["--pod", name, "--number", str(self.number), "--run", str(self.run.path)]
        words += ["--root", str(self.root.path), "--key-file", str(key), "--poll-s", "0.1"]
        words += ["--socket", str(arena.running.run.socket), "--isolation", "bubblewrap"]
        self.log = folder / "pod.log"
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aarlab.verify.node", *words],
                stdout=log,
                stderr=log,
                env={**os.environ, **env},
            )

    @property
    def holds(self) -> list[str]:
        with self.arena.running.operator() as platform:
            return [one.run for one in platform.leases() if one.pod == self.name]

    def end(self, number: int = signal.SIGTERM) -> int:
        self.process.send_signal(number)
        return self.process.wait(30)


def of(arena: Arena, method: str) -> Verification:
    with arena.running.operator() as platform:
        runs = platform.verifications()
    return next(v for v in runs if v.snapshot == arena.snapshots[method])


@pytest.mark.parametrize("split", ["selection", pytest.param("certify", marks=pytest.mark.gate)])
def test_verified_runs_read_the_material_and_nothing_else(
    toy_root: DataRoot, tmp_path: Path, split: str
) -> None:
    bare = DataRoot(tmp_path)
    for name, path in material_of(toy_root, "gauss", split).items():
        kind, _, below = name.partition("/")
        folder = {"vault": bare.vault_task("gauss"), "public": bare.public_task("gauss")}
        place = folder.get(kind, bare.path / kind) / below
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    there, train_rows = held_for(toy_root, "gauss", split, "secret")
    here, here_rows = held_for(bare, "gauss", split, "secret")
    assert (here.info, here.train, here.rows, here.twins) == (
        *(there.info, there.train, there.rows, there.twins),
    )
    assert (here.secret, here_rows) == (there.secret, train_rows)
    assert np.array_equal(here.labels.probs_SN, there.labels.probs_SN)
    assert hidden_files(bare, "gauss", split) == hidden_files(toy_root, "gauss", split)
    assert bool(there.twins) == (split == "selection"), "with twins and without"


def test_a_pod_gives_what_the_campaigns_machine_gives(arena: Arena, tmp_path: Path) -> None:
    arena.hand_in("mo", "majority", MAJORITY)
    arena.hand_in("mo", "blind", HONEST, opened=False)
    pod = Pod(arena, tmp_path)
    try:
        wait_for(lambda: {of(arena, m).state for m in ("majority", "blind")} == {"done"}, 120)
    finally:
        assert pod.end() == 0, pod.log.read_text()
    root = arena.running.task.data
    verifier = Verifier(RunDir(tmp_path / "here"), root, "bubblewrap", 0)
    with operator(arena.running.run) as platform:
        entries = [e.body for e in platform.log(limit=1000) if e.kind == "verified"]
        for method in ("majority", "blind"):
            done = of(arena, method)
            content = platform.snapshot(done.snapshot)
            mine = verifier.rerun(done, content)
            [entry] = [e for e in entries if e["id"] == done.id]
            assert entry["by"] == f"{POD}/{pod.number}"
            made = mine.model_dump(mode="json", include={"ids", "runs"})
            assert entry["predictions_sha256"] == content_hash(made), method
            assert (done.evidence, done.isolation) == (mine.evidence, mine.isolation)
            assert (done.delivery, done.train_rows) == (mine.delivery, mine.train_rows)
    assert not (pod.root.path / "vault").exists() and not (pod.root.path / "private").exists()
    material = pod.run.path / "material"
    assert material.stat().st_mode & 0o777 == 0o700
    kept = [path for path in material.rglob("*") if path.is_file()]
    assert kept and {path.stat().st_mode & 0o777 for path in kept} == {0o600}
    names = {path.name for path in kept} | {path.parent.name for path in kept}
    assert "selection.jsonl" in names and not {"truth", "baselines.npz"} & names


@pytest.mark.gate
def test_a_stop_gives_back_at_once_and_another_takes_it(arena: Arena, tmp_path: Path) -> None:
    arena.hand_in("slow", "slow", SLOW)
    pod, wanted = Pod(arena, tmp_path), of(arena, "slow").id
    try:
        wait_for(lambda: any(pod.run.verifier.glob("ver_*/*/job.json")), 60)
        assert pod.holds == [wanted]
        begun = time.monotonic()
        assert pod.end() == 0 and time.monotonic() - begun < 20
        assert pod.holds == [] and of(arena, "slow").state == "queued"
        assert not any(pod.run.verifier.glob("ver_*"))
        other = Pod(arena, tmp_path, "verifiers-2")
        try:
            wait_for(lambda: other.holds == [wanted], 60)
            assert other.end(signal.SIGKILL) == -signal.SIGKILL
            assert other.holds == [wanted], "until its lease ends, or its pod begins again"
            again = Pod(arena, tmp_path, "verifiers-2")
            wait_for(lambda: any(again.run.verifier.glob("ver_*/*/job.json")), 60)
            with VerifierClient(
                arena.running.address, (again.run.path / "key").read_text(), "verifiers-2"
            ) as newer:
                newer.join()  # a copy that an engine started elsewhere
                assert again.process.wait(60) == 75, again.log.read_text()
                assert newer.claim([]).id == wanted
                newer.release()
        finally:
            other.process.kill()
    finally:
        pod.process.kill()
    with arena.running.operator() as platform:
        platform.settle(wanted, VerificationResult(error="the test is over"))


@pytest.mark.gate
def test_a_re_run_that_it_does_not_hold_any_more_is_cut_short(arena: Arena, tmp_path: Path) -> None:
    arena.hand_in("mo", "slow as well", SLOW)
    pod, wanted = Pod(arena, tmp_path), of(arena, "slow as well").id
    try:
        wait_for(lambda: any(pod.run.verifier.glob("ver_*/*/job.json")), 60)
        with arena.running.operator() as platform:
            platform.settle(wanted, VerificationResult(error="the operator was faster"))
        wait_for(lambda: not any(pod.run.verifier.glob("ver_*")), 55)  # SLOW takes 60 s a seed
        assert pod.process.poll() is None, "it goes on with the next one"
    finally:
        assert pod.end() == 0, pod.log.read_text()
    assert of(arena, "slow as well").error == "the operator was faster"


def test_a_machine_with_another_task_says_so_and_takes_nothing(
    arena: Arena, tmp_path: Path
) -> None:
    arena.hand_in("mo", "waits", MAJORITY + "\n# waits\n")
    shutil.copytree(arena.running.task.data.public, tmp_path / "data" / "public")
    folder = next((tmp_path / "data" / "public").glob(f"{NAME}*"))
    with (folder / "inputs" / "train.jsonl").open("a", encoding="utf-8") as file:
        file.write("\n")
    pod = Pod(arena, tmp_path)
    assert pod.process.wait(60) == 1
    said = pod.log.read_text()
    assert "inputs/train.jsonl is not the campaign's: copy this task's folder" in said
    assert pod.holds == [] and of(arena, "waits").state == "queued"
    (folder / "inputs" / "train.jsonl").unlink()
    pod = Pod(arena, tmp_path)
    assert pod.process.wait(60) == 1
    assert "inputs/train.jsonl is not on this machine" in pod.log.read_text()
    assert pod.holds == []


@pytest.mark.gate
def test_a_machine_without_the_isolation_claims_nothing(arena: Arena, tmp_path: Path) -> None:
    (tmp_path / "pyseccomp.py").write_text("raise ImportError('not installed here')")
    arena.hand_in("mo", "waits on", MAJORITY + "\n# waits on\n")
    pod = Pod(arena, tmp_path, PYTHONPATH=str(tmp_path))
    assert pod.process.wait(60) == 1
    said = pod.log.read_text()
    assert "pyseccomp is missing" in said and "--sandbox process" in said
    assert "begun" not in said and of(arena, "waits on").state == "queued"
