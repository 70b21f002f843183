"""What an AAR's process keeps of its model calls: nothing that grows with their number."""

import gc

from inspect_ai.event import ModelEvent
from inspect_ai.model import ChatMessageSystem, ChatMessageUser

from aarlab.agents.language.models import Asker, open_model
from aarlab.agents.language.scripted import register_scripted
from aarlab.agents.specs import LanguageSpec


def test_inspect_keeps_no_event_of_earlier_calls() -> None:
    """It would hold every call with all its messages: 11 MB an hour at a call in 20 s."""
    register_scripted()
    spec = LanguageSpec(model="scripted/elicitor")
    asker = Asker(open_model(spec), spec)
    talk = [ChatMessageSystem(content="You are ada, x"), ChatMessageUser(content="go")]
    try:
        for _ in range(20):
            asker.ask(talk, [])
        gc.collect()
        # By type: isinstance reads an attribute of every object, and some of torch's warn.
        kept = sum(type(thing) is ModelEvent for thing in gc.get_objects())
    finally:
        asker.close()
    assert kept <= 2
