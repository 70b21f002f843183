"""What people ask of a running AAR: messages, pause, stop; obeyed between turns and in waits."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from inspect_ai.model import ChatMessageUser

from aarlab.agents.language.models import Interrupted
from aarlab.agents.language.state import LoopState
from aarlab.client.platform import PlatformClient
from aarlab.core.wire import Me, Wanted

POLL_S = 15.0
SHORT_S = 5.0  # of waits that are not worth a request
STOPPED = "the operator stopped it"


@dataclass
class Steering:
    """`save` makes a state last; a pause is noted once, however long it is."""

    platform: PlatformClient
    save: Callable[[LoopState], LoopState]

    def heed(self, state: LoopState) -> tuple[LoopState, Me]:
        """Wait out a pause, take up new messages; `wants_end` is set where it is to stop."""
        me = self.platform.me()
        while me.wanted == "pause":
            if not state.paused:
                state = self.save(state.but(paused=True).said("note", "paused by the operator"))
            self.platform.wanted("pause", POLL_S)
            me = self.platform.me()
        if state.paused:
            state = self.save(state.but(paused=False).said("note", "continues after the pause"))
        if me.wanted == "stop":
            return state.but(wants_end=STOPPED), me
        return self._with_messages(state), me

    def wait(self, seconds: float) -> None:
        """Sleep; raises Interrupted when the operator stops the AAR meanwhile."""
        end = time.monotonic() + seconds
        known: Wanted = "run"
        while (left_s := end - time.monotonic()) > SHORT_S:
            known = self.platform.wanted(known, min(left_s, POLL_S)).wanted
            if known == "stop":
                raise Interrupted(STOPPED)
        time.sleep(max(left_s, 0.0))

    def _with_messages(self, state: LoopState) -> LoopState:
        for message in self.platform.messages(state.operator_after):
            text = f"[Message from the operator {message.by}, {message.at}]\n{message.text}"
            state = state.with_messages(ChatMessageUser(content=text, source="operator"))
            state = state.but(operator_after=message.seq).said("operator", text)
        return state
