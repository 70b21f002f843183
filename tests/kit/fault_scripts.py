"""What the fake models say in the fault tests: functions of the conversation, importable by name.

A step carries its number in its calls, the notebook and the summary, so that the script finds its
place again after a summary or in a fresh session.
"""

import re

from fake_talk import Call, Conversation, Reply

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
    if said.turns and "replaced by a summary" in said.turns[-1].text:
        return Reply(f"I have done step-{n - 1}.")
    if n >= steps:
        return Reply("done", (Call("finish", {"reason": "all steps done"}),))
    if n == 0:
        return Reply("I begin.", (Call("python", {"code": PREDICT}),))
    name = f"step-{n}"
    note = Call("create_file", {"path": "notebook.md", "text": f"begun: {name}"})
    moves = {
        1: Call("bash", {"command": WORK.format(n=n)}),
        2: Call("submit_predictions", {"path": "predictions.json", "method": name}),
        3: Call("put_snapshot", {"folder": "mine", "name": name}),
        4: Call("post_finding", {"kind": "insight", "title": name, "text": "x"}),
        0: Call("my_budget", {}),
    }
    return Reply(f"Now {name}.", (note, moves[n % ROUND]))


def short_worker(said: Conversation) -> Reply:
    return worker(said, 11)
