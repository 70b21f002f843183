"""What a language-model AAR keeps on the platform, and when: before effects, and no more often."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import language_kit as kit
import pytest
from hypothesis import given
from hypothesis import strategies as st
from inspect_ai.model import ChatMessageUser
from language_kit import Bench

from aarlab.agents import keeping
from aarlab.agents.config import AarConfig
from aarlab.agents.keeping import PlatformKeeper
from aarlab.agents.language.state import LoopState, Store
from aarlab.agents.platform_link import Link
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import Claim
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import Superseded, Unreachable
from aarlab.core.wire_kept import MESSAGE, PART_BYTES, STRETCH_BYTES, Manifest, stretches
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import prepare_workspace

POST = ("post_finding", {"kind": "insight", "title": "t", "text": "x"})
BASH = ("bash", {"command": "date +%N >> log.txt"})


def kept_config(desk: Bench, name: str) -> AarConfig:
    """An AAR whose folder is not where the server writes what people look at."""
    config = desk.config(LanguageSpec(model="mockllm/model"), name)
    home = desk.running.run.path.parent / "nodes" / name
    prepare_workspace(home / "workspace", config.uid)
    return config.model_copy(update={"kept": True, "home": home})


def manifests(monkeypatch: pytest.MonkeyPatch) -> list[Manifest]:
    sent: list[Manifest] = []
    put = PlatformClient.put_manifest

    def noted(self: PlatformClient, manifest: Manifest) -> None:
        sent.append(manifest)
        put(self, manifest)

    monkeypatch.setattr(PlatformClient, "put_manifest", noted)
    return sent


@pytest.mark.parametrize(
    ("turn", "most"),
    [([BASH], 2), ([POST], 1), ([BASH, BASH], 2), ([BASH, POST], 2), ([POST, POST], 1), ([], 1)],
    ids=str,
)
def test_a_turn_has_two_manifests_at_most(
    desk: Bench, monkeypatch: pytest.MonkeyPatch, turn: list[tuple[str, dict]], most: int
) -> None:
    sent = manifests(monkeypatch)
    turns = 4
    made = [kit.calls(*turn) if turn else kit.answer("I think.") for _ in range(turns)]
    name = "-".join(["turns", *(tool[:4] for tool, _ in turn)])
    state = kit.live(kept_config(desk, name), kit.mock_spec(kit.script(*made)))
    assert state.finished
    # The first call, and at the end `finish` and the last state.
    assert turns <= len(sent) <= turns * most + 3
    assert all(one != other for one, other in pairwise(sent))


@contextmanager
def keeper_of(config: AarConfig) -> Iterator[PlatformKeeper]:
    with Link(config, 20)() as platform:
        life = platform.open_session().life
        prepare_workspace(config.workspace, config.uid)
        sandbox = SandboxSpec(workspace=config.workspace, uid=config.uid)
        made = PlatformKeeper(platform, config.home, sandbox)
        made.began(life)
        Claim(config.home, life).make()
        yield made


def test_what_of_a_workspace_is_kept(
    desk: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "FILE_BYTES", 1000)
    config = kept_config(desk, "kept-files")
    with keeper_of(config) as one:
        top = config.workspace
        for name in ("findings", "scratch", ".cache", "deep/scratch"):
            (top / name).mkdir(parents=True)
            (top / name / "x").write_text(name)
        (top / "run.sh").write_text("#!/bin/sh\n")
        (top / "run.sh").chmod(0o755)
        (top / "large").write_bytes(bytes(1001))
        (top / "link").symlink_to("run.sh")
        (top / os.fsdecode(b"\xff.bin")).write_bytes(b"x")
        os.mkfifo(top / "pipe")
        one.keep()
    moved = config.model_copy(update={"home": tmp_path / "there"})
    moved.home.mkdir()
    with keeper_of(moved) as two:
        assert two.moved
        found = {str(p.relative_to(moved.workspace)) for p in moved.workspace.rglob("*")}
        assert found == {"deep", "deep/scratch", "deep/scratch/x", "run.sh"}
        assert (moved.workspace / "run.sh").stat().st_mode & 0o777 == 0o755
        said = two.lost()
    assert "large (1,001 bytes)" in said and "link" in said and r"\udcff.bin" in said


def test_a_file_that_changes_within_its_time_and_size_is_seen(desk: Bench) -> None:
    config = kept_config(desk, "racy")
    place = config.workspace / "x"
    with keeper_of(config) as keeper:
        place.write_text("one")
        keeper.keep()
        facts = place.stat()
        before = keeper._last.workspace["x"]
        place.write_text("two")
        os.utime(place, ns=(facts.st_atime_ns, facts.st_mtime_ns))
        keeper.keep()
        assert keeper._last.workspace["x"] != before


def test_a_transcript_goes_in_parts(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeping, "PART_BYTES", 1000)
    config, sent = kept_config(desk, "parts"), []
    transcript = config.home / "transcript.jsonl"
    with keeper_of(config) as keeper:
        put = keeper.platform.put_blob
        monkeypatch.setattr(
            keeper.platform, "put_blob", lambda sha, data: sent.append(len(data)) or put(sha, data)
        )
        for _ in range(10):
            with transcript.open("ab") as out:
                out.write(os.urandom(700))
            keeper.keep()
        assert sum(sent) <= 10 * 2000 and max(sent) <= 1000
        names = [name for name in keeper._last.home if name.startswith("transcript")]
        assert len(names) == 7


@given(data=st.lists(st.sampled_from([MESSAGE, b"x" * 9, b"{", b""])).map(b"".join))
def test_stretches_are_the_whole(data: bytes) -> None:
    assert b"".join(stretches(data)) == data


def test_a_conversation_sends_what_is_new(
    desk: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is; and it is the same elsewhere, and where people look."""
    config, sent = kept_config(desk, "grows"), []
    put = PlatformClient.put_blob
    monkeypatch.setattr(PlatformClient, "put_blob", lambda *a: sent.append(len(a[2])) or put(*a))
    seen = desk.running.run.aar("grows") / "loop.json"
    with keeper_of(config) as keeper:
        store, state = Store(config.home, str), LoopState(prompt_hash="h")
        store.claim(1)
        for turn in range(80):
            message = ChatMessageUser(content=os.urandom(2000).hex())
            state = store.save(state.but(turn=turn).with_messages(message).said("note", "n" * 4000))
            keeper.keep()
            assert turn % 40 or seen.read_bytes() == (config.home / "loop.json").read_bytes()
    assert sum(sent) < 80 * 3 * STRETCH_BYTES
    moved = config.model_copy(update={"home": tmp_path / "there"})
    moved.home.mkdir()
    with keeper_of(moved):
        for name in ("loop.json", "transcript.jsonl"):
            assert (moved.home / name).read_bytes() == (config.home / name).read_bytes()
            assert (seen.parent / name).read_bytes() == (config.home / name).read_bytes()
    assert (config.home / "transcript.jsonl").stat().st_size > PART_BYTES


def test_what_was_not_sent_is_sent_later(desk: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    config = kept_config(desk, "later")
    with keeper_of(config) as keeper:
        (config.workspace / "old").write_text("x")
        os.utime(config.workspace / "old", (1, 1))
        (config.home / "transcript.jsonl").write_bytes(os.urandom(PART_BYTES + 1))
        with monkeypatch.context() as patch:
            patch.setattr(keeping, "RACY_S", -1.0)
            patch.setattr(PlatformClient, "put_blob", _unreachable)
            with pytest.raises(Unreachable):
                keeper.keep()
        keeper.keep()
        assert set(keeper._last.workspace) == {"old"}


def _unreachable(*_: object) -> None:
    raise Unreachable("gone")


def test_the_folder_of_the_life_before_stays_and_an_older_one_does_not(
    desk: Bench, tmp_path: Path
) -> None:
    here = kept_config(desk, "here-again")
    there = here.model_copy(update={"home": tmp_path / "there"})
    there.home.mkdir()
    with keeper_of(here) as keeper:
        (here.workspace / "a").write_text("kept")
        keeper.keep()
        (here.workspace / "b").write_text("after the last manifest")
    with keeper_of(here) as keeper:
        assert not keeper.moved and (here.workspace / "b").exists()
        with keeper_of(there) as other:
            assert other.moved
            (there.workspace / "c").write_text("of the newer life")
            other.keep()
            with pytest.raises(Superseded):
                keeper.touch()
                keeper.before_effect()
    with keeper_of(here) as keeper:
        assert keeper.moved, "its folder is older than what was kept"
        assert sorted(p.name for p in here.workspace.iterdir()) == ["a", "c"]


def test_an_extended_aar_continues(desk: Bench, tmp_path: Path) -> None:
    config, note = kept_config(desk, "extended"), "the budget was extended"
    kit.live(config, kit.mock_spec(kit.script()))
    for place, again in (("there", False), ("more", True)):
        (tmp_path / place).mkdir()
        moved = config.model_copy(update={"home": tmp_path / place, "again": again})
        assert kit.live(moved, kit.mock_spec(kit.script())).finished
        assert (note in [entry.text for entry in kit.transcript(moved)]) == again
