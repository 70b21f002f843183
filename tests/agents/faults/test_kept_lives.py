"""An AAR whose every life begins in an empty folder elsewhere, from what the platform keeps."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import kept_aar
import pytest
from fake_models import FakeModels, Fault
from fault_kit import Supervisor, books, check_books, config_of, keys_of, spec_of
from fault_scripts import sixteen_steps, thirty_steps
from language_kit import Bench, bench
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import load_state
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.links import SIGNED
from aarlab.core.supervision import SUPERSEDED
from aarlab.core.transcript import read_transcript
from aarlab.sandbox.workspace import prepare_workspace

pytestmark = pytest.mark.gate
SLOW = Fault("slow", every=1, wait_s=0.3)  # so that a kill can fall into the call
# Before blobs, between blobs and manifest, between manifest and effect, after effects, in a call.
MOMENTS = (
    ("put_blob", "before", 9),
    ("put_blob", "after", 12),
    ("put_manifest", "before", 4),
    ("put_manifest", "after", 4),
    ("ask", "within", 3),
    ("record_call", "after", 4),
    ("run", "within", 1),
    ("submit", "after", 1),
    ("put_snapshot", "after", 1),
    ("post_finding", "after", 1),
)


def elsewhere(config: AarConfig, home: Path) -> AarConfig:
    """The AAR on another machine, on which nothing of it is."""
    home.mkdir(parents=True)
    moved = config.model_copy(update={"home": home, "kept": True})
    prepare_workspace(moved.workspace, moved.uid)
    (home / "aar.json").write_text(moved.model_dump_json())
    return moved


def killed(config: AarConfig, fake: FakeModels, where: str, when: str, count: int) -> None:
    """Live until the moment at which the process kills itself."""
    with (config.home / "aar.log").open("ab") as log:
        done = subprocess.run(
            [
                *(sys.executable, kept_aar.__file__, str(config.home / "aar.json")),
                *(where, when, str(count)),
            ],
            env={**os.environ, **keys_of(fake)},
            stdout=log,
            stderr=log,
            timeout=120,
        )
    assert done.returncode == -9, (config.home / "aar.log").read_text()[-3000:]


def recorded(desk: Bench, name: str) -> int:
    export, _ = books(desk, name)
    return sum(spend.calls for spend in export.model_spend if spend.aar == name)


@pytest.mark.timeout(1200)
def test_killed_at_every_moment(desk: Bench, tmp_path: Path) -> None:
    name = "moved"
    with FakeModels(thirty_steps, [SLOW]) as fake:
        first = config_of(desk, spec_of(fake, context_tokens=6_000, max_output_tokens=500), name)
        for number, moment in enumerate(MOMENTS):
            killed(elsewhere(first, tmp_path / str(number) / name), fake, *moment)
        aar = Supervisor(elsewhere(first, tmp_path / "last" / name), fake)
        aar.start()
        aar.end(600)
        counts, asked = fake.counts(), fake.counts().n_paid
        assert recorded(desk, name) <= asked <= recorded(desk, name) + len(MOMENTS)
        assert sum(n - 1 for n in counts.paid.values()) <= len(MOMENTS)
        check_books(desk, aar, moved=True)
        assert counts.leaks == [] and counts.wrong_key == 0
    told = [e.text for e in read_transcript(aar.config.home / "transcript.jsonl")]
    assert any("You were moved to another machine" in text for text in told)
    # What people look at is the same: the server writes it out.
    seen = desk.running.run.aar(name)
    for file in ("transcript.jsonl", "state.json", "loop.json"):
        assert (seen / file).read_bytes() == (aar.config.home / file).read_bytes()


@pytest.fixture
def direct_desk(toy_root: DataRoot, s3: str, tmp_path: Path) -> Iterator[Bench]:
    """A platform whose AARs put blobs into a bucket themselves, without its credentials."""
    options = ("--blobs", f"{s3}/{tmp_path.name}", "--blobs-direct")
    with (
        bench(toy_root, RunDir(tmp_path / "run"), "--task", "gauss", *options) as made,
        pytest.MonkeyPatch.context() as patch,
    ):
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        yield made


@pytest.mark.timeout(900)
def test_killed_around_a_bucket(direct_desk: Bench, tmp_path: Path) -> None:
    name, moments = (
        "past-it",
        (
            ("put_blobs", "before", 5),
            ("put_blobs", "within", 6),
            ("put_blobs", "after", 7),
            ("put_manifest", "before", 4),
            ("put_manifest", "after", 4),
        ),
    )
    with FakeModels(sixteen_steps, [SLOW]) as fake:
        first = config_of(direct_desk, spec_of(fake, max_output_tokens=500), name)
        for number, moment in enumerate(moments):
            killed(elsewhere(first, tmp_path / str(number) / name), fake, *moment)
        aar = Supervisor(elsewhere(first, tmp_path / "last" / name), fake)
        aar.start()
        aar.end(600)
        asked = fake.counts().n_paid
        assert recorded(direct_desk, name) <= asked <= recorded(direct_desk, name) + len(moments)
        check_books(direct_desk, aar, moved=True)
    seen = direct_desk.running.run.aar(name)
    for file in ("transcript.jsonl", "state.json", "loop.json"):
        assert (seen / file).read_bytes() == (aar.config.home / file).read_bytes()
    left = [*tmp_path.rglob("aar.log"), direct_desk.running.run.path / "server.log"]
    left += [path for path in seen.rglob("*") if path.is_file()]
    assert not [path for path in left if SIGNED.encode() in path.read_bytes()]
    assert not (direct_desk.running.run.platform / "kept").exists()


def test_a_link_is_cut_and_mended(desk: Bench, tmp_path: Path) -> None:
    """The old copy works on out of sight, comes back, and is refused: 409."""
    name = "cut-off"
    place = tmp_path / "cable" / "platform.sock"
    place.parent.mkdir()
    there = desk.running.run.socket
    with (
        FakeModels(sixteen_steps, [SLOW]) as fake,
        kept_aar.Cable(place, there) as cable,
    ):
        first = config_of(desk, spec_of(fake, max_output_tokens=500), name)
        out_of_sight = first.model_copy(update={"socket": place})
        old = Supervisor(elsewhere(out_of_sight, tmp_path / "old" / name), fake)
        old.start()
        seen = desk.running.run.aar(name) / "loop.json"
        wait_for(lambda: seen.exists() and fake.counts().n_paid >= 4, 60)
        cable.cut()
        new = Supervisor(elsewhere(first, tmp_path / "new" / name), fake)
        new.start()
        asked = fake.counts().n_paid
        wait_for(lambda: fake.counts().n_paid > asked + 3 or not new.alive, 60)
        assert old.alive and new.alive, new.log()[-3000:]
        cable.mend()
        assert old.process is not None
        assert old.process.wait(60) == SUPERSEDED, old.log()[-3000:]
        new.end(300)
        assert sum(n - 1 for n in fake.counts().paid.values()) <= 1
        check_books(desk, new, moved=True)
    assert "a newer process of" in old.log()
    with_old = [e.text for e in read_transcript(old.config.home / "transcript.jsonl")]
    assert with_old and "finished" not in with_old[-1]


def test_a_control_researcher_moves(desk: Bench, fake: FakeModels, tmp_path: Path) -> None:
    made = {"researcher": "random", "language": None, "max_trials": 4, "seed": 5}
    config = desk.config(LanguageSpec(model="mockllm/model"), "rowan").model_copy(update=made)
    moments = (("put_manifest", "after", 1), ("put_manifest", "before", 2), ("submit", "after", 1))
    for number, moment in enumerate((*moments, ("post_finding", "after", 1))):
        killed(elsewhere(config, tmp_path / str(number) / "rowan"), fake, *moment)
    last = Supervisor(elsewhere(config, tmp_path / "last" / "rowan"), fake)
    last.start()
    last.end()
    state = load_state(last.config.state)
    assert len(state.done) == 4 and state.finished
    export, record = books(desk, "rowan")
    sent = [s for s in export.submissions if s.aar == "rowan"]
    assert [t.score.submission for t in state.done if t.score] == [s.id for s in sent]
    assert len([f for f in export.findings if f.author == "rowan"]) == len(state.done)
    assert record.spend["device_s"] == pytest.approx(sum(t.device_s for t in state.done))
    assert load_state(desk.running.run.aar("rowan") / "state.json") == state
