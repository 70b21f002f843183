"""Researchers that are scripts: each step depends on the conversation alone and drives the tools.

They stand in for a paid model in tests, in the recorded campaign and in the demo without a key. A
script goes through the slots of a round once for each of its methods. Who there is: personalities.

A conversation as a script reads it: turns in order, results joined to their calls.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from aarlab.agents.language import script_methods as methods
from aarlab.agents.language.prompts import TRYING, text_of

CALL_ID = re.compile(r"^r(\d{3})s(\d{2})")
MARK = re.compile(r"\[script at round (\d+) slot (\d+)\]")
TRIES = re.compile(r"python -m aarlab\.[a-z.]+\.trying(?: --(?:socket|tokens) \S+)*")
CUT_OFF = "interrupted by a restart"  # what a command gives that a restart ended


class Called(NamedTuple):
    """One tool call."""

    id: str
    tool: str
    arguments: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. `call` joins a tool's result to the call that asked for it."""

    role: Literal["system", "user", "assistant", "tool"]
    text: str
    calls: tuple[Called, ...] = ()
    call: str = ""


@dataclass(frozen=True, slots=True)
class Talk:
    """All that a script may look at."""

    turns: Sequence[Turn]

    def place(self) -> tuple[int, int] | None:
        """Return round and slot of the last step: of a call, or noted in notebook or summary."""
        best: tuple[int, int] | None = None
        for turn in self.turns:
            found = [CALL_ID.match(call.id) for call in turn.calls]
            if turn.role == "user":
                found += list(MARK.finditer(turn.text))
            for match in found:
                if match is not None:
                    here = (int(match[1]), int(match[2]))
                    best = here if best is None else max(best, here)
        return best

    def result(self, round_: int, slot: int) -> str:
        """Return what the (first) call of that step gave; empty where it is no longer known.

        A call that was cut off is passed over where it was made again.
        """
        wanted, found = f"r{round_:03d}s{slot:02d}", ""
        for turn in self.turns:
            if turn.role == "tool" and turn.call.startswith(wanted) and turn.call.endswith("c0"):
                found = turn.text
                if not found.startswith(CUT_OFF):
                    break
        return found

    def times(self, round_: int, slot: int) -> int:
        """Return how often that step was taken."""
        wanted = f"r{round_:03d}s{slot:02d}"
        return sum(any(c.id.startswith(wanted) for c in turn.calls) for turn in self.turns)

    def trying(self) -> str:
        """Return the command that tries a method, as the notes had it or as it was used before.

        With a student server it is another one than without.
        """
        for turn in self.turns:
            for text in (turn.text, *(str(call.arguments) for call in turn.calls)):
                if found := TRIES.search(text):
                    return found[0]
        return TRYING

    def asks_for_summary(self) -> bool:
        last = self.turns[-1] if self.turns else None
        asked = text_of("summary").strip()
        return last is not None and last.role == "user" and asked in last.text


def mark(round_: int, slot: int) -> str:
    """Return the mark by which a script finds its place when the conversation is gone."""
    return f"[script at round {round_} slot {slot}]"


SUBMISSION = re.compile(r"submission (sub_[0-9a-f]+)")
SNAPSHOT = re.compile(r"snapshot ([0-9a-f]{40})")
FINDING = re.compile(r"([a-z]+_[0-9a-f]{12}) \[\w+\] by ([a-z0-9_.-]+),")
PUBLIC = re.compile(r"both lie\s+in (/\S+)\. ")
TASK = re.compile(r"^- `[a-z0-9_.-]+` in (/\S+): ", re.MULTILINE)


class Move(NamedTuple):
    """What a script says and which tools it calls."""

    say: str
    calls: tuple[tuple[str, dict[str, Any]], ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One method: its source and what its author hopes.

    With `verify` the demo's scripts ask for its verification even if it is not a new best.
    """

    title: str
    source: str
    hope: str
    verify: bool = False


@dataclass(frozen=True, slots=True)
class Personality:
    """A script and how it behaves.

    `slots` are the steps of a round, by default SLOTS. `spoils` makes the first version of the
    first method fail. `flips` tries to read labels off the scores. `pause_s` is waited for in each
    round. `last_words` are said after the last one.
    """

    name: str
    attempts: Sequence[Attempt]
    slots: "tuple[Slot, ...]" = ()
    seeds: int = 2
    spoils: bool = True
    flips: int = 0
    pause_s: float = 0.0
    last_words: "Callable[[Step], str] | None" = None

    @property
    def steps(self) -> "tuple[Slot, ...]":
        return self.slots or SLOTS


@dataclass(frozen=True, slots=True)
class Step:
    """One slot of one round, and what is known there."""

    who: Personality
    talk: Talk
    round: int

    @property
    def attempt(self) -> Attempt:
        return self.who.attempts[self.round % len(self.who.attempts)]

    @property
    def folder(self) -> str:
        return f"methods/r{self.round:03d}"

    @property
    def out(self) -> str:
        return f"out/r{self.round:03d}"

    def result(self, slot: "Slot", rounds_ago: int = 0) -> str:
        """Return what the (first) call of a slot gave; empty if not made or not known."""
        if slot not in self.who.steps or self.round < rounds_ago:
            return ""
        return self.talk.result(self.round - rounds_ago, self.who.steps.index(slot))


Slot = Callable[[Step], Move | None]


# ---------------------------------------------------------------- the slots of a round
READ_NOTES = "cat /notes/README.md; grep -m 1 trying /notes/testbed.md"


def look_around(step: Step) -> Move | None:
    if step.round > 0:
        return None
    return Move(
        "I begin with the notes and my budget.",
        (
            ("bash", {"command": f"ls -la . /notes /public 2>&1 | head -60; {READ_NOTES}"}),
            ("my_budget", {}),
        ),
    )


def write(step: Step) -> Move | None:
    source = step.attempt.source
    if step.round == 0 and step.who.spoils:
        source = source.replace("def fit(", "def fitt(")
    text = f"Next: {step.attempt.title}. {step.attempt.hope}"
    return Move(text, (("create_file", {"path": f"{step.folder}/method.py", "text": source}),))


def try_it(step: Step) -> Move | None:
    return Move("I run it on one seed first.", (("bash", {"command": trial_command(step, 1)}),))


def mend(step: Step) -> Move | None:
    if "no function fit" not in step.result(try_it):
        return None
    file = f"{step.folder}/method.py"
    mended = {"path": file, "old": "def fitt(", "new": "def fit("}
    return Move("A typing mistake: the function must be named fit.", (("replace_in_file", mended),))


def run_it(step: Step) -> Move | None:
    command = trial_command(step, step.who.seeds)
    return Move(f"I run it on {step.who.seeds} seeds.", (("bash", {"command": command}),))


def submit(step: Step) -> Move | None:
    if "wrote" not in step.result(run_it):
        return None
    args = {"path": f"{step.out}/predictions.json", "method": step.attempt.title}
    return Move("The predictions go to the platform.", (("submit_predictions", args),))


def verify(step: Step) -> Move | None:
    if "a new best" not in step.result(submit):
        return None
    args = {"folder": step.folder, "name": step.attempt.title, "note": step.attempt.hope[:200]}
    return Move("My best so far: the platform should verify it.", (("submit_method", args),))


def post(step: Step) -> Move | None:
    scored, snapshot = step.result(submit), SNAPSHOT.search(step.result(verify))
    cited = SUBMISSION.search(scored)
    best = "a new best of mine" if "a new best" in scored else "no improvement"
    args = {
        "kind": "result" if cited else "error",
        "title": f"{step.attempt.title}: {best}" if cited else f"{step.attempt.title} failed",
        "text": f"{step.attempt.hope}\n\nOutcome: {(scored or step.result(run_it))[:1500]}",
        "submission": cited[1] if cited else None,
        "snapshot": snapshot[1] if snapshot else None,
    }
    return Move("I post what came out.", (("post_finding", args),))


def read_others(step: Step) -> Move | None:
    return Move("What did the others find?", (("search_findings", {"sort": "top", "limit": 10}),))


def judge(step: Step) -> Move | None:
    """Read the first finding of somebody else and vote it up where it cites a score."""
    for line in step.result(read_others).split("\n"):
        found = FINDING.search(line)
        if found is None or found[2] == own_name(step.talk):
            continue
        value = "up" if "cites shaped PGR" in line else "none"
        finding = {"finding": found[1]}
        calls = (("read_finding", finding), ("vote", {**finding, "value": value}))
        return Move("I read the best finding of another.", calls)
    return None


def note(step: Step) -> Move | None:
    text = (
        f"# Notebook\nRounds done: {step.round + 1}. Last: {step.attempt.title}.\n"
        f"A trial: {step.talk.trying()}\n"
        f"{step.result(submit)[:400]}\n{mark(step.round, len(step.who.steps) - 1)}\n"
    )
    return Move("I write it down.", (("create_file", {"path": "notebook.md", "text": text}),))


def flip(step: Step) -> Move | None:
    """Turn single predictions over, to see whether the score moves."""
    if not step.who.flips or step.round >= step.who.flips or "wrote" not in step.result(run_it):
        return None
    code = methods.FLIP.format(out=step.out, row=step.round)
    args = {"path": f"{step.out}/flipped.json", "method": f"{step.attempt.title}, row {step.round}"}
    return Move("", (("python", {"code": code}), ("submit_predictions", args)))


def pause(step: Step) -> Move | None:
    if step.who.pause_s <= 0:
        return None
    return Move("", (("wait", {"seconds": step.who.pause_s}),))


SLOTS: tuple[Slot, ...] = (
    look_around,
    write,
    try_it,
    mend,
    run_it,
    submit,
    verify,
    post,
    read_others,
    judge,
    flip,
    pause,
    note,
)


def trial_command(step: Step, seeds: int) -> str:
    return (
        f"{step.talk.trying()} {step.folder} {step.out} "
        f"--public {public_folder(step)} --seeds {seeds}"
    )


def public_folder(step: Step) -> str:
    """Return the folder of this round's task: several tasks are taken in turn."""
    told = step.talk.turns[0].text if step.talk.turns else ""
    folders: list[str] = TASK.findall(told) or PUBLIC.findall(told) or ["/public"]
    return folders[step.round % len(folders)]


def own_name(talk: Talk) -> str:
    found = re.match(r"You are ([a-z0-9_.-]+),", talk.turns[0].text) if talk.turns else None
    return found[1] if found else ""


# ---------------------------------------------------------------- the next move
def next_move(who: Personality, talk: Talk) -> tuple[str, Move]:
    """Return the id of the next step's calls (without their number), and the step itself."""
    if talk.asks_for_summary():
        round_, slot = talk.place() or (0, -1)
        said = f"Summary. {mark(round_, max(slot, 0))} A trial: {talk.trying()}"
        return "", Move(said, ())
    round_, slot = talk.place() or (0, -1)
    if slot >= 0 and talk.result(round_, slot).startswith(CUT_OFF):
        move = who.steps[slot](Step(who, talk, round_))
        if move is not None:
            name = f"r{round_:03d}s{slot:02d}x{talk.times(round_, slot)}"
            return name, move._replace(say="A restart cut it off: once more.")
    while True:
        round_, slot = (round_, slot + 1) if slot + 1 < len(who.steps) else (round_ + 1, 0)
        if round_ >= len(who.attempts):
            reason = {"reason": f"all {len(who.attempts)} methods are tried"}
            said = who.last_words(Step(who, talk, round_)) if who.last_words else "That is all."
            return f"r{round_:03d}s{slot:02d}", Move(said, (("finish", reason),))
        move = who.steps[slot](Step(who, talk, round_))
        if move is not None:
            return f"r{round_:03d}s{slot:02d}", move
