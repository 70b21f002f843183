"""Accounts, settings, windows: what the vendors' own clients raise, and what an AAR makes of it."""

import subprocess
import sys
import threading
import time
from dataclasses import replace

import language_kit as kit
import pytest
from fake_models import Call, Conversation, FakeModels, Fault, Reply
from fault_kit import booked_tokens, books, config_of, heard_tokens, keys_of, spec_of
from fault_scripts import next_step
from language_kit import Bench
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.language.models import Patience, SettingsRefused
from aarlab.agents.language.prompts import text_of
from aarlab.agents.language.state import LoopState
from aarlab.campaign.processes import GIVEN_UP
from aarlab.campaign.spec import AlertSpec
from aarlab.campaign.watch import Look, alerts
from aarlab.core.clock import now_iso
from aarlab.core.wire_ledger import NewControl

pytestmark = pytest.mark.gate

EMPTY = (
    "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing to "
    "upgrade or purchase credits."
)
QUOTA = "You exceeded your current quota, please check your plan and billing details."
UNPAID = {
    "anthropic": Fault("refused", every=1, message=EMPTY),
    "openai responses": Fault(
        "refused", every=1, status=429, name="insufficient_quota", message=QUOTA
    ),
}
QUICK = Patience(0.05, 1.0, 30.0, account_first_s=0.4, account_longest_s=0.8)
LONG_STEPS = 20


def long_talker(said: Conversation) -> Reply:
    """Many steps with long results, and a summary that says where it is."""
    n = next_step(said)
    if said.turns and text_of("summary").strip() in said.turns[-1].text:
        return Reply(f"I have done step-{n - 1}.")
    if n >= LONG_STEPS:
        return Reply("done", (Call("finish", {"reason": "all steps done"}),))
    command = f"echo step-{n} >> steps.txt; head -c 6000 /dev/zero | tr '\\0' x; echo step-{n}"
    return Reply(f"Now step-{n}.", (Call("bash", {"command": command}),))


class Living:
    """An AAR in a thread, with little patience."""

    def __init__(self, config: AarConfig) -> None:
        self.config, self.state = config, None
        self.thread = threading.Thread(target=self._live)
        self.thread.start()

    def _live(self) -> None:
        with kit.aar(self.config) as made:
            made.caller.asker.patience = QUICK
            self.state = made.run()

    def joined(self, seconds: float) -> LoopState:
        self.thread.join(seconds)
        assert self.state is not None
        return self.state


def raised_alerts(desk: Bench, name: str) -> list[tuple[str, str]]:
    """Those that the campaign would raise now."""
    with desk.running.operator() as operator:
        aars, budget = operator.aars(), operator.budget()
    look = Look(now_iso(), aars, [], budget, {name: 0})
    return [(a.what, a.text) for a in alerts(look, AlertSpec()) if name in a.text + a.about]


@pytest.mark.parametrize("vendor", UNPAID)
def test_an_empty_account_is_waited_for_and_nothing_is_lost(
    desk: Bench, fake: FakeModels, vendor: str
) -> None:
    """Paid again, the AAR goes on at the turn where it was; no call is made twice, no hour runs."""
    name = f"unpaid-{vendor}".replace(" ", "-")
    config = config_of(desk, spec_of(fake, vendor), name)
    fake.replan([replace(UNPAID[vendor], every=0, at=tuple(range(4, 400)))])
    alive = Living(config)
    wait_for(lambda: fake.counts().faults.get("refused", 0) >= 3, 30)
    turn, began = kit.saved(config)["turn"], time.monotonic()
    seen: list[tuple[str, str]] = []
    while time.monotonic() - began < 2.5:
        seen += raised_alerts(desk, name)
        time.sleep(0.2)
    assert kit.saved(config)["turn"] == turn == 4
    tried = fake.counts().faults["refused"]
    assert tried <= 3 + 2.5 / 0.5, "never a fast loop"
    fake.replan([])
    state = alive.joined(60)
    assert state.why == "it finished by itself: all steps done"
    assert state.session == 1 and state.discarded == 0
    words = EMPTY if vendor == "anthropic" else QUOTA
    entries = kit.transcript(config)
    assert len([e for e in entries if e.text.startswith("alert: ") and words in e.text]) == 1
    assert len(set(seen)) == 1 and seen[0][0] == "account" and words in seen[0][1]
    assert raised_alerts(desk, name) == []
    assert fake.counts().repeated == {}
    _, record = books(desk, name)
    assert booked_tokens(record) == heard_tokens(fake.counts())
    assert record.waiting_s >= 2.5 and record.waiting_for == ""
    export, _ = books(desk, name)
    lives = [s for s in export.sessions if s.aar == name]
    assert {s.kind for s in lives} == {"research"}


def test_stop_ends_the_wait_for_an_account(desk: Bench, fake: FakeModels) -> None:
    config = config_of(desk, spec_of(fake), "unpaid-stopped")
    fake.replan([UNPAID["anthropic"]])
    alive = Living(config)
    wait_for(lambda: fake.counts().requests >= 1, 30)
    with desk.running.operator() as operator:
        operator.control("unpaid-stopped", NewControl(action="stop", by="Ada"), key="u")
    state = alive.joined(30)
    assert "stopped" in state.why and state.turn <= 1


SETTINGS = {
    "model": Fault("refused", every=1, status=404, name="not_found_error", message="model: gone-1"),
    "parameter": Fault(
        "refused", every=1, message="`temperature` may only be set to 1 when thinking is enabled."
    ),
}


@pytest.mark.parametrize("kind", SETTINGS)
def test_settings_end_the_aar_with_the_providers_words(
    desk: Bench, fake: FakeModels, kind: str
) -> None:
    """After some turns: the process ends so that the campaign does not start it again; set right,
    a resume goes on with the turn that was refused."""
    name, fault = f"settings-{kind}", SETTINGS[kind]
    config = config_of(desk, spec_of(fake), name)
    fake.replan([replace(fault, every=0, at=tuple(range(3, 400)))])
    with kit.aar(config) as made, pytest.raises(SettingsRefused) as raised:
        made.caller.asker.patience = QUICK
        made.run()
    assert fault.message in str(raised.value) and "Request:" not in str(raised.value)
    assert fake.counts().faults["refused"] == 1
    last = kit.transcript(config)[-1]
    assert last.kind == "error" and last.text.startswith("alert: stopped: ")
    assert fault.message in last.text and len(last.text) < 400
    if kind == "model":
        command = [sys.executable, "-m", "aarlab.agents", str(config.home / "aar.json")]
        done = subprocess.run(command, capture_output=True, timeout=120)
        assert done.returncode == GIVEN_UP and fault.message.encode() in done.stderr
    fake.replan([])
    with kit.aar(config) as made:
        state = made.run()
    assert state.why == "it finished by itself: all steps done" and state.session == 1
    assert fake.counts().repeated == {}
    _, record = books(desk, name)
    assert booked_tokens(record) == heard_tokens(fake.counts())


def test_a_key_that_worked_is_waited_for_and_one_that_never_did_is_not(
    desk: Bench, fake: FakeModels
) -> None:
    revoked = Fault(
        "refused", status=401, name="authentication_error", message="This API key was revoked."
    )
    config = config_of(desk, spec_of(fake), "revoked")
    fake.replan([replace(revoked, at=(3, 4))])
    with kit.aar(config) as made:
        made.caller.asker.patience = QUICK
        assert made.run().session == 1
    assert fake.counts().faults == {"refused": 2} and fake.counts().repeated == {}
    config = config_of(desk, spec_of(fake), "never-worked")
    fake.replan([replace(revoked, every=1)])
    with kit.aar(config) as made, pytest.raises(SettingsRefused, match="revoked"):
        made.run()


BAD = "messages.4: `tool_result` block is malformed"


def test_a_refused_conversation_is_repaired_then_left_then_given_up(
    desk: Bench, fake: FakeModels
) -> None:
    """Once the last results are left out; then a fresh session begins; that refused, it ends."""
    config = config_of(desk, spec_of(fake), "refused-once")
    fake.replan([Fault("refused", at=(3,), message=BAD)])
    with kit.aar(config) as made:
        state = made.run()
    assert state.session == 1 and state.discarded == 0 and not state.repaired
    assert any("left out" in m.text and BAD in m.text for m in state.messages)
    config = config_of(desk, spec_of(fake), "refused-twice")
    fake.reset()
    fake.replan([Fault("refused", at=(3, 4), message=BAD)])
    with kit.aar(config) as made:
        state = made.run()
    assert (state.session, state.discarded) == (2, 1)
    config = config_of(desk, spec_of(fake), "refused-always")
    fake.reset()
    fake.replan([Fault("refused", at=tuple(range(3, 400)), message=BAD)])
    with kit.aar(config) as made, pytest.raises(SettingsRefused, match="malformed"):
        made.run()
    assert fake.counts().faults["refused"] == 3


def test_a_window_smaller_than_thought_is_learned_once(
    desk: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No fresh session: the conversation is summed up, and the limit outlasts the process."""
    with FakeModels(long_talker, [Fault("window", every=1, tokens=15_000)]) as fake:
        for name, key in keys_of(fake).items():
            monkeypatch.setenv(name, key)
        config = config_of(desk, spec_of(fake, max_output_tokens=1_000), "window")
        early = config.language.model_copy(update={"max_turns": 12})
        state = kit.live(config, early)
        assert state.turn == 12 and fake.counts().faults == {"window": 1}
        learned = state.context_limit
        assert learned is not None and 7_000 < learned <= 14_000
        (config.home / "loop.json").write_text(state.but(finished=False, why="").model_dump_json())
        (config.home / "state.json").unlink()
        state = kit.live(config)
        counts = fake.counts()
    assert counts.faults == {"window": 1}, "learned once"
    assert state.context_limit == learned
    assert state.why == "it finished by itself: all steps done" and state.session == 1
    steps = (config.workspace / "steps.txt").read_text().split()
    assert steps == [f"step-{n}" for n in range(LONG_STEPS)], "nothing forgotten, nothing twice"
    assert booked_tokens(books(desk, "window")[1]) == heard_tokens(counts)


@pytest.mark.slow
def test_a_window_that_is_never_told_is_found_by_shrinking(
    desk: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenAI's Responses say no numbers; what is learned keeps the conversation alive."""
    words = "Your input exceeds the context window of this model. Please adjust your input."
    window = Fault("window", every=1, tokens=15_000, message=words)
    with FakeModels(long_talker, [window]) as fake:
        for name, key in keys_of(fake).items():
            monkeypatch.setenv(name, key)
        config = config_of(desk, spec_of(fake, "openai responses"), "untold")
        state = kit.live(config)
        assert 1 <= fake.counts().faults["window"] <= 3
    assert state.session == 1 and state.why == "it finished by itself: all steps done"
    errors = [e.text for e in kit.transcript(config) if e.kind == "error"]
    assert errors and all(words in text for text in errors)


def test_a_window_without_room_for_the_prompt_ends_with_the_providers_words(
    desk: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeModels(long_talker, [Fault("window", every=1, tokens=500)]) as fake:
        for name, key in keys_of(fake).items():
            monkeypatch.setenv(name, key)
        config = config_of(desk, spec_of(fake), "tiny-window")
        with kit.aar(config) as made, pytest.raises(SettingsRefused, match=r"500 maximum.*no room"):
            made.run()
        assert fake.counts().faults["window"] <= 3
    assert books(desk, "tiny-window")[1].spend.get("dollars", 0) == 0, "refusals cost nothing"
