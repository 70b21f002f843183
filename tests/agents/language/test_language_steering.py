"""Messages, pause and stop of an operator reach a running AAR."""

import threading
import time

import language_kit as kit
import pytest
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.language.loop import _warned
from aarlab.agents.language.state import LoopState
from aarlab.agents.language.steering import STOPPED, Steering
from aarlab.agents.specs import LanguageSpec
from aarlab.core.wire import Limits, Me
from aarlab.core.wire_ledger import NewControl

SPEC = LanguageSpec(model="mockllm/model")


class Alive:
    """An AAR that lives in a thread of this process."""

    def __init__(self, config: AarConfig, spec: LanguageSpec) -> None:
        self.config, self.spec, self.state = config, spec, None
        self.thread = threading.Thread(target=self._live)
        self.thread.start()

    def _live(self) -> None:
        self.state = kit.live(self.config, self.spec)

    def said(self, text: str) -> bool:
        return any(text in e.text for e in kit.transcript(self.config))

    def joined(self, seconds: float = 60):
        self.thread.join(seconds)
        assert self.state is not None, "its AAR still lives, or failed"
        return self.state


def _asks(desk: kit.Bench, name: str, action: str, text: str = "") -> None:
    with desk.running.operator() as operator:
        operator.control(name, NewControl(action=action, text=text, by="Ada"), key=None)


def _waits(seconds: float, n: int = 60):
    return kit.script(*[kit.calls(("bash", {"command": f"sleep {seconds}; echo slept"}))] * n)


def test_a_message_is_told_once(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "msg")
    alive = Alive(config, kit.mock_spec(_waits(0.2, 12)))
    wait_for(lambda: alive.said("slept"))
    _asks(desk, "msg", "message", "Look at the hard rows.")
    alive.joined()
    told = [e.text for e in kit.transcript(config) if e.kind == "operator"]
    assert len(told) == 1
    assert told[0].startswith("[Message from the operator Ada") and "hard rows" in told[0]
    assert sum("hard rows" in m.text for m in alive.state.messages) == 1


def test_a_pause_stops_research_time(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "pause")
    alive = Alive(config, kit.mock_spec(_waits(0.2, 8)))
    wait_for(lambda: alive.said("slept"))
    _asks(desk, "pause", "pause")
    wait_for(lambda: alive.said("paused by the operator"))
    turn, began = kit.saved(config)["turn"], time.monotonic()
    time.sleep(3.0)
    assert kit.saved(config)["turn"] == turn
    _asks(desk, "pause", "resume")
    alive.joined()
    paused_s = time.monotonic() - began
    assert alive.said("continues after the pause") and alive.state.why.startswith("it finished")
    with kit.connect(config) as platform:
        assert platform.me().research_s < paused_s + 3


def test_a_stop_within_a_turn_is_a_stop_and_no_budget(
    desk: kit.Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It comes after the turn began, so that the call's reservation is the first to be refused."""
    config, heed = desk.config(SPEC, "within"), Steering.heed

    def then_stopped(steering: Steering, state: LoopState) -> tuple[LoopState, Me]:
        found = heed(steering, state)
        _asks(desk, "within", "stop")
        return found

    monkeypatch.setattr(Steering, "heed", then_stopped)
    state = kit.live(config, kit.mock_spec(_waits(0.1)))
    assert state.why == STOPPED


def test_a_stop_ends_a_command_that_runs(desk: kit.Bench) -> None:
    config = desk.config(SPEC, "stop")
    alive = Alive(config, kit.mock_spec(_waits(120)))
    wait_for(lambda: (config.home / "running.json").exists())
    _asks(desk, "stop", "stop")
    state = alive.joined()
    assert state.why == "the operator stopped it"
    assert "[killed after" in kit.results(config)[0]


def test_more_submissions_end_the_write_up(desk: kit.Bench) -> None:

    me = Me(
        name="a",
        direction="",
        limits=Limits(submissions=1),
        submissions_made=1,
        submissions_left=0,
        research_s=0.0,
        spend={},
        left=Limits(submissions=0),
    )
    state = _warned(LoopState(prompt_hash="x", turn=5), me)
    assert state.ends_at == 25 and _warned(state, me) == state
    more = me.model_copy(update={"left": Limits(submissions=3)})
    assert _warned(state, more).ends_at is None
