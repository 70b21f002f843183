"""`kill -9` at random of the server, the verifier or a client in the middle of its requests.

What was acknowledged is there, once; every verification is settled once; the log verifies.
"""

import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from arena import Arena, open_arena
from hacks import MAJORITY
from platform_kit import spawn

from aarlab.client.transport import health
from aarlab.core.wire import CampaignExport
from aarlab.store.log import verify_log
from aarlab.verify.__main__ import main as verify

WRITER = Path(__file__).parents[1] / "kit" / "writer.py"
CLIENTS = ("ada", "bob", "cyd")
METHODS = 6


@dataclass
class Scene:
    """Everything that can be killed, and how to start it again."""

    arena: Arena
    folder: Path
    tokens: dict[str, str] = field(default_factory=dict)
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str) -> None:
        platform = self.arena.running
        if name == "server":
            platform.process = spawn(platform.task, platform.run)
            health(platform.address, deadline_s=60)
            self.running[name] = platform.process
            return
        words = self._verifier() if name == "verifier" else self._writer(name)
        with (self.folder / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words], stdout=log, stderr=log, start_new_session=True
            )

    def kill(self, name: str) -> None:
        self.running[name].kill()
        self.running[name].wait()

    def notes(self, name: str) -> list[str]:
        """Whole lines that a client wrote of what was acknowledged."""
        path = self.folder / f"{name}.notes"
        return path.read_text().splitlines() if path.exists() else []

    def _verifier(self) -> list[str]:
        run, root = self.arena.running.run.path, self.arena.running.task.data.path
        places = ["--run", str(run), "--root", str(root)]
        return ["-m", "aarlab.verify", *places, "--follow", "--poll-s", "0.2"]

    def _writer(self, name: str) -> list[str]:
        platform = self.arena.running
        rows = platform.task.data.public_task(platform.task.name) / "inputs" / "search.jsonl"
        where = (str(rows), str(self.folder / f"{name}.notes"))
        return [str(WRITER), str(platform.run.socket), self.tokens[name], name, *where]


def hammer(folder: Path, kills: int) -> Counter[str]:
    """Returns how often each was killed."""
    rng, killed = random.Random(kills), Counter[str]()
    with open_arena(folder) as arena:
        scene = Scene(arena, folder)
        scene.tokens = {name: arena.running.token(name) for name in CLIENTS}
        for number in range(METHODS):
            arena.hand_in("mo", f"m{number}", f"{MAJORITY}\n# {number}\n")
        scene.running["server"] = arena.running.process
        for name in ("verifier", *CLIENTS):
            scene.start(name)
        try:
            victims = rng.choices(("server", "verifier", "client"), (2, 1, 1), k=kills)
            for kind in ("server", "verifier", "client", *victims)[:kills]:
                time.sleep(rng.uniform(0.0, 0.8))
                name = rng.choice(CLIENTS) if kind == "client" else kind
                scene.kill(name)
                killed[kind] += 1
                scene.start(name)
            time.sleep(2.0)
        finally:
            for name in ("verifier", *CLIENTS):
                scene.kill(name)
        run, root = arena.running.run, arena.running.task.data
        assert verify(["--run", str(run.path), "--root", str(root.path), "--parallel", "2"]) == 0
        with arena.running.operator() as operator:
            check(scene, operator.export())
        verify_log(arena.running.run.database)
    return killed


def check(scene: Scene, export: CampaignExport) -> None:
    stored = Counter(f.id for f in export.findings)
    stored += Counter(s.id for s in export.snapshots) + Counter(s.id for s in export.submissions)
    lines = [line.split() for name in CLIENTS for line in scene.notes(name)]
    acknowledged = [made for kind, made in lines if kind != "spend"]
    assert len(acknowledged) > 3 * len(CLIENTS), "the clients got nowhere"
    assert len(set(acknowledged)) == len(acknowledged) and set(acknowledged) <= set(stored)
    assert set(Counter(f.title for f in export.findings).values()) == {1}
    assert set(Counter(s.method for s in export.submissions).values()) == {1}
    for name in CLIENTS:
        spent = next(aar.spend["device_s"] for aar in export.aars if aar.name == name)
        noted = sum(line.startswith("spend") for line in scene.notes(name))
        assert noted <= spent <= noted + 1, "an unnoted write may have happened, once"
    plain = [v for v in export.verifications if v.ablation == "none"]
    assert len(plain) == METHODS and {v.state for v in export.verifications} == {"done"}
    audits = Counter((a.kind, a.aar, a.snapshot, a.task) for a in export.audits)
    assert max(audits.values()) == 1 and len(audits) >= METHODS


def test_three_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    """One of each: the server, the verifier, a client."""
    assert set(hammer(tmp_path, 3).values()) == {1}


@pytest.mark.gate
def test_ten_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    assert len(hammer(tmp_path, 10)) == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_hundred_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    assert min(hammer(tmp_path, 100).values()) > 10
