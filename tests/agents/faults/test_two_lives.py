"""Two processes of one AAR on one folder: the newer one works on, the older one stops at once."""

import json
import os
import random
import signal
import time
from pathlib import Path

import language_kit as kit
import pytest
from fake_models import FakeModels, Fault
from fault_kit import Supervisor, check_books, config_of, phase_of, spec_of
from fault_scripts import ROUND, waiter, worker
from language_kit import Bench
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.language.state import Store
from aarlab.agents.platform_link import Link
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import LIFE, LIFE_LOCK, Claim, load_state
from aarlab.core.errors import Damaged, Superseded
from aarlab.core.supervision import SUPERSEDED
from aarlab.core.transcript import read_transcript
from aarlab.core.wire_ledger import NewControl

SLOW = Fault("slow", every=1, wait_s=0.1)  # so that a newer process begins during a call
PHASES = ("model", "tool", "submission", "save")


def _gives_way(old: Supervisor, config: AarConfig) -> None:
    """The older process ends with a reason in its log; its folder is the newer one's."""
    assert old.process is not None
    assert old.process.wait(120) == SUPERSEDED, old.log()[-3000:]
    assert "a newer process of" in old.log()
    assert not (config.home / "error.json").exists()


def _calls(config: AarConfig) -> int:
    path = config.home / "loop.json"
    return int(json.loads(path.read_text())["calls"]) if path.exists() else 0


@pytest.mark.gate
@pytest.mark.parametrize("halted", [False, True], ids=["beside", "halted"])
def test_copies_of_a_language_model_aar(desk: Bench, halted: bool) -> None:
    """The older process works on, or is halted and wakes up when the newer one has worked."""
    rng, name = random.Random(3), f"twice-{halted}".lower()
    with FakeModels(worker, [SLOW]) as fake:
        config = config_of(desk, spec_of(fake, context_tokens=6_000, max_output_tokens=500), name)
        newest = Supervisor(config, fake)
        newest.start()
        wait_for(lambda: _calls(config) > 3 or not newest.alive, 60)
        for phase in PHASES:
            end, calls = time.monotonic() + 6.0, _calls(config)
            while time.monotonic() < end and phase_of(config.home) != phase:
                time.sleep(0.002)
            assert newest.alive, newest.log()[-3000:]
            assert newest.process is not None
            if halted:
                newest.process.send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.0, 0.1))
            old, newest = newest, Supervisor(config, fake)
            newest.start()
            if halted:
                wait_for(lambda seen=calls: _calls(config) > seen + 3, 60)
                assert old.process is not None
                old.process.send_signal(signal.SIGCONT)
            _gives_way(old, config)
            worked = _calls(config) + 2
            wait_for(lambda most=worked: _calls(config) > most, 60)
        asked = fake.counts().n_paid
        wait_for(lambda: fake.counts().n_paid > asked + 2 * ROUND + 4, 120)
        with desk.running.operator() as operator:
            operator.control(name, NewControl(action="stop", by="t"), key=f"stop-{name}")
        newest.end()
        counts = fake.counts()
        assert sum(n - 1 for n in counts.paid.values()) <= len(PHASES), "a call in flight each"
        check_books(desk, newest)


@pytest.mark.gate
def test_a_command_of_the_older_process_is_ended(desk: Bench) -> None:
    with FakeModels(waiter) as fake:
        config = config_of(desk, spec_of(fake, tool_timeout_s=7200.0), "waits")
        old, new = Supervisor(config, fake), Supervisor(config, fake)
        old.start()
        wait_for(lambda: (config.workspace / "log.txt").exists(), 60)
        new.start()
        _gives_way(old, config)
        new.end()
    said = [e.text for e in read_transcript(config.home / "transcript.jsonl")]
    assert sum("interrupted by a restart" in text for text in said) == 1
    assert (config.workspace / "log.txt").read_text().split() == ["begun"]


@pytest.mark.slow
def test_copies_of_a_control_researcher(desk: Bench, fake: FakeModels) -> None:
    made = {"researcher": "random", "language": None, "max_trials": 4, "seed": 5}
    config = desk.config(LanguageSpec(model="mockllm/model"), "rowan").model_copy(update=made)
    (config.home / "aar.json").write_text(config.model_dump_json())
    newest = Supervisor(config, fake)
    newest.start()
    for done in (0, 1):

        def under_way(done: int = done) -> bool:
            state = load_state(config.state)
            return len(state.done) >= done and state.pending is not None

        wait_for(under_way, 120)
        assert newest.alive, newest.log()[-3000:]
        old, newest = newest, Supervisor(config, fake)
        newest.start()
        _gives_way(old, config)
    newest.end()
    state = load_state(config.state)
    assert len(state.done) == 4 and state.finished
    with desk.running.operator() as operator:
        export = operator.export()
    sent = [s for s in export.submissions if s.aar == "rowan"]
    assert [t.score.submission for t in state.done if t.score] == [s.id for s in sent]
    assert len([f for f in export.findings if f.author == "rowan"]) == len(state.done)
    assert len({s.id for s in export.snapshots if s.aar == "rowan"}) == len(state.done)
    [record] = [aar for aar in export.aars if aar.name == "rowan"]
    assert record.spend["device_s"] == pytest.approx(sum(t.device_s for t in state.done))


def test_it_is_no_answer_of_a_tool(desk: Bench) -> None:
    """The newer process begins while the older one is about to call a tool."""
    config = desk.config(LanguageSpec(model="mockllm/model"), "answered")
    moves = kit.script(kit.calls(("my_budget", {})), kit.calls(("my_budget", {})))
    with kit.aar(config, kit.mock_spec(moves)) as made:
        answer = made.answerer.next

        def next_(state: kit.LoopState) -> kit.LoopState | None:
            if state.turn == 2:
                with Link(config, 20)() as newer:
                    newer.open_session()
            return answer(state)

        made.answerer.next = next_  # type: ignore[method-assign]
        with pytest.raises(Superseded, match="life 2"):
            made.run()
        assert made.platform.life.over.is_set()
    told = kit.results(config)
    assert len(told) == 1 and "superseded" not in told[0]


def test_device_seconds_of_an_older_life_are_not_swallowed(desk: Bench) -> None:
    config = desk.config(LanguageSpec(model="mockllm/model"), "booked")
    with kit.aar(config, kit.mock_spec(kit.script())) as made:
        made.platform.open_session()
        with Link(config, 20)() as newer:
            newer.open_session()
        with pytest.raises(Superseded):
            made.kit.book(1.0, "k", "a command")


def test_only_the_newest_life_writes_in_the_folder(tmp_path: Path) -> None:
    old, new = Store(tmp_path, str), Store(tmp_path, str)
    old.claim(3)
    new.claim(4)
    state = kit.LoopState(prompt_hash="p")
    refused = (
        lambda: old.save(state),
        lambda: old.load(),
        lambda: old.drop_answer("m1"),
        lambda: old.request("k", dict),
        lambda: old.drop_requests(),
        lambda: old.ended(),
        lambda: old.claim(3),
    )
    for write in refused:
        with pytest.raises(Superseded, match="life 4; this is life 3"):
            write()
    new.save(state.said("note", "mine"))
    assert (tmp_path / LIFE).read_text() == "4\n"
    assert [e.text for e in read_transcript(tmp_path / "transcript.jsonl")] == ["mine"]


def test_an_older_life_repairs_nothing(tmp_path: Path) -> None:
    """Loading completes the transcript from the state and deletes: the newer one may only."""
    Store(tmp_path, str).save(kit.LoopState(prompt_hash="p").said("note", "x"))
    torn = tmp_path / "transcript.jsonl"
    torn.write_bytes(torn.read_bytes() + b'{"seq": 2, "te')
    old, before = Store(tmp_path, str), torn.read_bytes()
    Claim(tmp_path, 2).make()
    old._claim = Claim(tmp_path, 1)
    with pytest.raises(Superseded):
        old.load()
    assert torn.read_bytes() == before


def test_a_claim_says_what_is_wrong_with_the_folder(tmp_path: Path) -> None:
    (tmp_path / LIFE).write_text("none\n")
    with pytest.raises(Damaged, match="remove it"):
        Claim(tmp_path, 1).make()


def test_a_lock_that_stays_does_not_keep_the_newer_life_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A machine that is gone, or a halted process, may hold the lock for ever."""
    monkeypatch.setattr("aarlab.agents.state.LOCK_S", 0.05)
    with Claim(tmp_path, 1).held() as locked:
        assert locked
        Claim(tmp_path, 2).make()
        with Claim(tmp_path, 2).held() as again:
            assert again, "its own writes do not wait for that lock"
    with pytest.raises(Superseded):
        Claim(tmp_path, 1).make()


def test_a_claim_waits_for_a_save_under_way(tmp_path: Path) -> None:
    begun, child = tmp_path / "begun", os.fork()
    if child == 0:
        with Claim(tmp_path, 1).held():
            begun.touch()
            time.sleep(0.3)
            (tmp_path / "saved").touch()
            os._exit(0)
    wait_for(begun.exists)
    Claim(tmp_path, 2).make()
    assert (tmp_path / "saved").exists()
    os.waitpid(child, 0)
    assert (tmp_path / LIFE_LOCK).exists()
