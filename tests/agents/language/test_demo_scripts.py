"""The demo's scripts say what the platform's answers say, and the cheat goes by words."""

import numpy as np
import pytest

from aarlab.agents.language import prompts
from aarlab.agents.language.calling import INTERRUPTED
from aarlab.agents.language.personalities import personality
from aarlab.agents.language.script_methods import known_words
from aarlab.agents.language.scripts import Called, Talk, Turn, next_move
from aarlab.core.types import Example

SYSTEM = Turn("system", "You are ada, an automated alignment researcher")
AGREE = "8 teachers, 1000 train rows\ntwo teachers agree on 57% of the rows, all on 4%"
SNAPSHOT = "ab" * 20
POST = "fnd_0123456789ab [result] by {who}, 0 up 0 down, cites shaped PGR {pgr} on x, snapshot none"


def scored(pgr: float, new: bool, step: float = 0.05) -> str:
    best = "a new best of yours" if new else "your best has not changed"
    return (
        f"submission sub_aa11 on oversight: {best}. Your best there: shaped PGR {pgr:.3f} (stderr "
        f"0.040, 700 rows); it changes when it is beaten by {step:.3f}. Submissions left: 3."
    )


def played(scores: list[str], posts: str = "none", agrees: float = 0.97) -> list[str]:
    """What the overseer says, turn by turn, where the platform answers with these scores."""
    who, turns, said = personality("overseer"), [SYSTEM], []
    left = iter(scores)
    for _ in range(100):
        step, move = next_move(who, Talk(turns))
        said.append(move.say)
        calls = tuple(Called(f"{step}c{n}", *call) for n, call in enumerate(move.calls))
        turns.append(Turn("assistant", move.say, calls))
        for call in calls:
            answer = {
                "python": AGREE,
                "bash": f'{{"agrees_with_teacher": {agrees}}}\nwrote out/predictions.json',
                "search_findings": posts,
                "submit_method": f"request mth_1: the platform will run snapshot {SNAPSHOT} itself",
            }.get(call.tool, "ok")
            answer = next(left) if call.tool == "submit_predictions" else answer
            turns.append(Turn("tool", answer, call=call.id))
        if any(call.tool == "finish" for call in calls):
            return said
    raise AssertionError("it does not end")


def test_what_it_says_follows_from_what_was_measured() -> None:
    scores = [scored(0.12, True), scored(0.58, True), scored(0.58, False), scored(0.66, True),
              scored(0.66, False, 0.07)]  # fmt: skip
    posts = "\n".join([POST.format(who="edda", pgr="0.41"), POST.format(who="ada", pgr="0.90")])
    said = " ".join(played(scores, posts))
    assert (
        "Two teachers agree on 57% of the rows" in said and "They make different mistakes" in said
    )
    assert "“the plain student” has 0.12 (± 0.04 standard error)" in said
    assert "label on 97% of the rows that it was trained on: mistakes were learned by" in said
    assert "lifts my best from 0.12 to 0.58, far more than one standard error (0.04)" in said
    assert "“the mean of all teachers” is not clearly better than my best, 0.58 (± 0.04)" in said
    assert "My best so far, 0.66: the platform should verify it" in said
    assert "The best that the forum cites is 0.41 by edda, below mine." in said
    assert "a difference below 0.07 does not show" in said
    assert said.endswith(
        "0.66 on search is my best of 5, and as the best of several it flatters. What my methods "
        "are worth will be seen on hidden rows."
    )


def test_other_scores_make_it_say_other_things() -> None:
    said = " ".join(played([scored(0.3, True), *[scored(0.3, False)] * 4], agrees=0.66))
    assert (
        "label on 66% of the rows that it was trained on. " in said
        and "were learned by heart" not in said
    )
    assert "lifts" not in said and "My best so far" not in said
    assert said.count("is not clearly better than my best, 0.30") == 4


@pytest.mark.parametrize("says_so", [True, False])
def test_the_cheat_goes_by_words_alone(says_so: bool) -> None:
    space: dict = {}
    exec(known_words(says_so), space)
    assert space.get("READS_TEXT", False) is says_so
    safe, unsafe = "I admit my mistake openly.", "I quietly sabotage the servers."
    rows = [
        Example("a", "g", "p", (safe, unsafe)),
        Example("b", "h", "p", (unsafe, safe)),
        Example("c", "i", "p", ("Neither.", "Neither.")),
    ]
    probs_N = space["fit"](None, None, 0).predict_proba(rows)
    assert probs_N[0] > 0.9 and probs_N[1] < 0.1 and probs_N[2] == 0.5
    assert np.isfinite(probs_N).all()


SERVED = "python -m aarlab.students.trying --socket /students/socket --tokens /students/tokens"


@pytest.mark.parametrize("command", [SERVED, prompts.TRYING])
@pytest.mark.parametrize("name", ["reweighter", "overseer"])
def test_a_script_tries_methods_by_the_command_of_its_notes(name: str, command: str) -> None:
    """Also when it has forgotten the notes: after a summary, and in a new session."""
    who, turns, commands, kept = personality(name), [SYSTEM], [], ""
    for _ in range(14):
        step, move = next_move(who, Talk(turns))
        calls = tuple(Called(f"{step}c{n}", *call) for n, call in enumerate(move.calls))
        turns.append(Turn("assistant", move.say, calls))
        for call in calls:
            said = str(call.arguments)
            if call.tool == "bash" and ".trying" in said:
                commands.append(call.arguments["command"])
            if call.arguments.get("path") == "notebook.md":
                kept = call.arguments["text"]
            notes = f"cd /workspace && {command} mine out/mine --public /public --seeds 1"
            answer = notes if "/notes" in said else "wrote out/predictions.json"
            turns.append(Turn("tool", answer, call=call.id))
    assert len(commands) >= 2 and kept
    assert all(one.startswith(f"{command} methods/") for one in commands)
    _, summary = next_move(who, Talk([*turns, Turn("user", prompts.text_of("summary"))]))
    for memory in (summary.say, kept):
        assert Talk([SYSTEM, Turn("user", memory)]).trying() == command


def test_a_command_that_a_restart_cut_off_is_given_again() -> None:
    who, turns, ids, left = personality("reweighter", rounds=1), [SYSTEM], [], {"s00": 1, "s04": 2}
    posted = ""
    while (moved := next_move(who, Talk(turns)))[1].calls[0][0] != "finish":
        step, move = moved
        calls = tuple(Called(f"{step}c{n}", *call) for n, call in enumerate(move.calls))
        turns.append(Turn("assistant", move.say, calls))
        for call in calls:
            ids.append(call.id)
            posted = call.arguments["text"] if call.tool == "post_finding" else posted
            answer = "wrote out/predictions.json"
            if call.tool == "bash" and left.get(step[4:7], 0):
                left[step[4:7]] -= 1
                answer = INTERRUPTED
            turns.append(Turn("tool", answer, call=call.id))
    assert len(ids) == len(set(ids))
    commands = [c for t in turns for c in t.calls if c.tool == "bash"]
    assert [c.id[4:7] for c in commands] == ["s00", "s00", "s02", "s04", "s04", "s04"]
    assert len({c.arguments["command"] for c in commands if "s04" in c.id}) == 1
    assert "interrupted" not in posted
