"""What a fake model says to Claude Code: a script that finds its place in the conversation."""

from fake_talk import Call, Conversation, Reply
from fault_scripts import next_step

STEPS = 14


def walker(said: Conversation) -> Reply:
    """Works step by step, each in the workspace's log.txt; posts at each fourth; then finishes."""
    if "Bash" not in said.tools:
        return Reply("a title")
    n = next_step(said)
    if n > STEPS:
        done = Call("Write", {"file_path": "/workspace/finished", "content": "all steps done"})
        return Reply("That is all.") if "all steps done" in str(said.turns) else Reply("", (done,))
    if n % 4 == 3:
        post = {"kind": "insight", "title": f"step-{n}", "text": "x"}
        return Reply(f"Now step-{n}.", (Call("mcp__aarlab__post_finding", {"post": post}),))
    work = f"echo step-{n} >> log.txt; sleep 0.3; wc -l log.txt"
    return Reply(f"Now step-{n}.", (Call("Bash", {"command": work, "description": "work"}),))
