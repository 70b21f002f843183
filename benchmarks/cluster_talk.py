"""What the models of `cluster.py --pods` say: the scripts of the recorded campaign, by AAR.

The endpoint's process imports this module. An answer depends on the conversation alone, so that an
AAR that comes up on another node goes on where it was.
"""

from fake_talk import Call, Conversation, Reply

from aarlab.agents.language.personalities import PERSONALITIES, personality
from aarlab.agents.language.scripts import Called, Talk, Turn, next_move, own_name

SCRIPTS = {  # the script and the direction of each AAR
    "ada": ("elicitor", "elicitation"),
    "bela": ("reweighter", "reweighting"),
    "cleo": ("majority", "undirected"),
    "dora": ("combiner", "combining"),
    "emil": ("distiller", "distillation"),
    "fritz": ("simplifier", "simplicity_bias"),
    "gisa": ("dynamicist", "training_dynamics"),
    "hugo": ("pollster", "several_teachers"),
    "milo": ("flipper", "undirected"),
}
ROUNDS = 2


def nine(said: Conversation) -> Reply:
    talk = talk_of(said)
    script, _ = SCRIPTS[own_name(talk)]
    rounds = min(ROUNDS, len(PERSONALITIES[script].attempts))
    step, move = next_move(personality(script, rounds=rounds), talk)
    calls = [Call(tool, given, f"{step}c{n}") for n, (tool, given) in enumerate(move.calls)]
    return Reply(move.say, tuple(calls))


def talk_of(said: Conversation) -> Talk:
    """Return a request as a script reads it."""
    turns = [Turn("system", said.system)]
    for turn in said.turns:
        turns += [Turn("tool", text, call=call) for call, text in turn.results.items()]
        if turn.role == "assistant":
            calls = tuple(Called(call.id, call.name, call.arguments) for call in turn.calls)
            turns.append(Turn("assistant", turn.text, calls))
        elif turn.text:
            turns.append(Turn("user", turn.text))
    return Talk(turns)
