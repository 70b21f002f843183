"""What the fake models say in the fault tests: functions of the conversation, importable by name.

A step carries its number in its calls, the notebook and the summary, so that the script finds its
place again after a summary or in a fresh session.
"""

import re

from fake_talk import Call, Conversation, Reply

from aarlab.agents.language.prompts import text_of

STEP = re.compile(r"step-(\d+)")
ROUND = 5
PREDICT = """
import json, pathlib
rows = pathlib.Path("/public/inputs/search.jsonl").read_text().splitlines()
ids = [json.loads(row)["id"] for row in rows]
run = {"seed": 0, "probs": [0.5 + (i % 7) / 20 for i in range(len(ids))]}
made = {"task": "gauss", "split": "search", "ablation": "none", "ids": ids, "runs": [run]}
pathlib.Path("predictions.json").write_text(json.dumps({**made, "records": [], "seconds": 1.0}))
pathlib.Path("mine").mkdir(exist_ok=True)
pathlib.Path("mine/method.py").write_text("def fit(task, student, seed): return None")
print("step-0 done")
"""
# Again where a kill cut the first step off.
PREPARE = f"test -f mine/method.py || python - <<'END'\n{PREDICT}\nEND\n"
# Long enough that a kill can fall into it, much output so that conversations are shortened.
WORK = "echo step-{n} >> log.txt; sleep 0.2; head -c 2500 /dev/zero | tr '\\0' x; echo step-{n}"


def next_step(said: Conversation) -> int:
    seen = [said.system] if said.system else []
    for turn in said.turns:
        seen += [turn.text, *turn.results.values(), *(str(call.arguments) for call in turn.calls)]
    return max((int(n) for text in seen for n in STEP.findall(text)), default=-1) + 1


def worker(said: Conversation, steps: int = 1_000_000) -> Reply:
    """Works, submits, freezes, posts, notes; for ever, or for so many steps."""
    n = next_step(said)
    if said.turns and text_of("summary").strip() in said.turns[-1].text:
        return Reply(f"I have done step-{n - 1}.")
    if n >= steps:
        return Reply("done", (Call("finish", {"reason": "all steps done"}),))
    if n == 0:
        return Reply("I begin.", (Call("python", {"code": PREDICT}),))
    name = f"step-{n}"
    note = Call("create_file", {"path": "notebook.md", "text": f"begun: {name}"})
    moves = {
        1: Call("bash", {"command": PREPARE + WORK.format(n=n)}),
        2: Call("submit_predictions", {"path": "predictions.json", "method": name}),
        3: Call("put_snapshot", {"folder": "mine", "name": name}),
        4: Call("post_finding", {"kind": "insight", "title": name, "text": "x"}),
        0: Call("my_budget", {}),
    }
    return Reply(f"Now {name}.", (note, moves[n % ROUND]))


def short_worker(said: Conversation) -> Reply:
    return worker(said, 6)


def sixteen_steps(said: Conversation) -> Reply:
    return worker(said, 16)


def thirty_steps(said: Conversation) -> Reply:
    return worker(said, 30)


def wrong_fifty(said: Conversation) -> Reply:
    """Fifty malformed calls of tools in a row, then the end."""
    kinds = (
        Call("bash", {}),
        Call("bash", {"command": 7}),
        Call("no_such_tool", {"x": 1}),
        Call("view", {"path": "a", "colour": "red"}),
        Call("submit_predictions", {"path": "../../etc/passwd", "method": "m"}),
    )
    if said.answered < 50:
        return Reply("", (kinds[said.answered % len(kinds)],))
    return Reply("", (Call("finish", {"reason": "fifty"}),))


def _one(said: Conversation, *calls: Call) -> Reply:
    if said.answered < len(calls):
        return Reply("", (calls[said.answered],))
    return Reply("", (Call("finish", {"reason": "seen"}),))


def endless(said: Conversation) -> Reply:
    return _one(said, Call("bash", {"command": "echo begun; sleep 1000000", "timeout_s": 2}))


def waiter(said: Conversation) -> Reply:
    return _one(said, Call("bash", {"command": "echo begun >> log.txt; sleep 3600"}))


def stubborn(said: Conversation) -> Reply:
    """A tool that never returns and ignores signals, with children that do the same."""
    command = "trap '' TERM INT HUP; (trap '' TERM; sleep 7777) & while true; do sleep 1; done"
    return _one(said, Call("bash", {"command": command, "timeout_s": 2}))


def loud(said: Conversation) -> Reply:
    command = "yes 0123456789abcdef | head -c 10485760; echo the-very-end"
    return _one(said, Call("bash", {"command": command}))


def forker(said: Conversation) -> Reply:
    bomb = Call("bash", {"command": ":(){ :|:& };: ; sleep 2; echo survived", "timeout_s": 8})
    return _one(said, bomb, Call("bash", {"command": "echo still-here"}))


def filler(said: Conversation) -> Reply:
    fill = 'i=0; while head -c 100000000 /dev/zero > "f$i"; do i=$((i+1)); sleep 0.1; done'
    return _one(
        said,
        Call("bash", {"command": f"{fill}; ls | wc -l", "timeout_s": 60}),
        Call("bash", {"command": "rm -f f*; echo room-again"}),
        Call("create_file", {"path": "after.txt", "text": "x"}),
    )


def reader(said: Conversation) -> Reply:
    return _one(
        said,
        Call("search_findings", {"query": "ignore"}),
        Call("bash", {"command": "cat findings/*ignore*"}),
    )


def patient(said: Conversation) -> Reply:
    """Many small calls of the platform, for a server that goes away meanwhile."""
    n = next_step(said)
    if n > 12:
        return Reply("done", (Call("finish", {"reason": "all steps done"}),))
    post = Call("post_finding", {"kind": "insight", "title": f"step-{n}", "text": "x"})
    return Reply(f"step-{n}", (post, Call("bash", {"command": f"echo step-{n} >> log.txt"})))
