"""Researchers that are scripts: each step depends on the conversation alone and drives the tools.

They stand in for a paid model in tests and in the recorded campaign. A script reads the notes,
writes a method with a mistake in it, runs it, reads the failure, mends it, submits, asks for
verification, posts, reads what others found and votes. Two of them cheat, to be found out.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from aarlab.agents.language import script_methods as methods
from aarlab.agents.language.talk import Talk, mark
from aarlab.core.errors import BadInput, NotFound

MOST_ROUNDS = 10_000
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
    """One method: its files, by name, and what its author hopes."""

    title: str
    source: str
    hope: str


@dataclass(frozen=True, slots=True)
class Personality:
    """`spoils` makes the first version of the first method fail; `flips` tries to read labels off
    the scores; `pause_s` is waited for in each round."""

    name: str
    attempts: Sequence[Attempt]
    seeds: int = 2
    spoils: bool = True
    flips: int = 0
    pause_s: float = 0.0


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

    def result(self, slot: int) -> str:
        return self.talk.result(self.round, slot)


# ---------------------------------------------------------------- the slots of a round
def look_around(step: Step) -> Move | None:
    if step.round > 0:
        return None
    return Move(
        "I begin with the notes and my budget.",
        (
            ("bash", {"command": "ls -la . /notes /public 2>&1 | head -60; cat /notes/README.md"}),
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
    return Move("I run it on one seed first.", (("bash", {"command": _command(step, 1)}),))


def mend(step: Step) -> Move | None:
    if "no function fit" not in step.result(2):
        return None
    file = f"{step.folder}/method.py"
    mended = {"path": file, "old": "def fitt(", "new": "def fit("}
    return Move("A typing mistake: the function must be named fit.", (("replace_in_file", mended),))


def run_it(step: Step) -> Move | None:
    command = _command(step, step.who.seeds)
    return Move("Now on all seeds.", (("bash", {"command": command}),))


def submit(step: Step) -> Move | None:
    if "wrote" not in step.result(4):
        return None
    args = {"path": f"{step.out}/predictions.json", "method": step.attempt.title}
    return Move("The predictions go to the platform.", (("submit_predictions", args),))


def verify(step: Step) -> Move | None:
    if "a new best" not in step.result(5):
        return None
    args = {"folder": step.folder, "name": step.attempt.title, "note": step.attempt.hope[:200]}
    return Move("My best so far: the platform should verify it.", (("submit_method", args),))


def post(step: Step) -> Move | None:
    scored, snapshot = step.result(5), SNAPSHOT.search(step.result(6))
    cited = SUBMISSION.search(scored)
    best = "a new best of mine" if "a new best" in scored else "no improvement"
    args = {
        "kind": "result" if cited else "error",
        "title": f"{step.attempt.title}: {best}" if cited else f"{step.attempt.title} failed",
        "text": f"{step.attempt.hope}\n\nOutcome: {(scored or step.result(4))[:1500]}",
        "submission": cited[1] if cited else None,
        "snapshot": snapshot[1] if snapshot else None,
    }
    return Move("I post what came out.", (("post_finding", args),))


def read_others(step: Step) -> Move | None:
    return Move("What did the others find?", (("search_findings", {"sort": "top", "limit": 10}),))


def judge(step: Step) -> Move | None:
    """Reads the first finding of somebody else and votes it up where it cites a score."""
    for line in step.result(8).split("\n"):
        found = FINDING.search(line)
        if found is None or found[2] == _name(step.talk):
            continue
        value = "up" if "cites shaped PGR" in line else "none"
        finding = {"finding": found[1]}
        calls = (("read_finding", finding), ("vote", {**finding, "value": value}))
        return Move("I read the best finding of another.", calls)
    return None


def note(step: Step) -> Move | None:
    text = (
        f"# Notebook\nRounds done: {step.round + 1}. Last: {step.attempt.title}.\n"
        f"{step.result(5)[:400]}\n{mark(step.round, len(SLOTS) - 1)}\n"
    )
    return Move("I write it down.", (("create_file", {"path": "notebook.md", "text": text}),))


def flip(step: Step) -> Move | None:
    """Turns single predictions over, to see whether the score moves."""
    if not step.who.flips or step.round >= step.who.flips or "wrote" not in step.result(4):
        return None
    code = methods.FLIP.format(out=step.out, row=step.round)
    args = {"path": f"{step.out}/flipped.json", "method": f"{step.attempt.title}, row {step.round}"}
    return Move("", (("python", {"code": code}), ("submit_predictions", args)))


def pause(step: Step) -> Move | None:
    if step.who.pause_s <= 0:
        return None
    return Move("", (("wait", {"seconds": step.who.pause_s}),))


SLOTS: tuple[Callable[[Step], Move | None], ...] = (
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


def _command(step: Step, seeds: int) -> str:
    told = step.talk.turns[0].text if step.talk.turns else ""
    folders = TASK.findall(told) or PUBLIC.findall(told) or ["/public"]
    folder = folders[step.round % len(folders)]  # several tasks are taken in turn
    return (
        f"python -m aarlab.testbed.trying {step.folder} {step.out} --public {folder} "
        f"--seeds {seeds}"
    )


def _name(talk: Talk) -> str:
    found = re.match(r"You are ([a-z0-9_.-]+),", talk.turns[0].text) if talk.turns else None
    return found[1] if found else ""


# ---------------------------------------------------------------- the next move
def next_move(who: Personality, talk: Talk) -> tuple[str, Move]:
    """The id of the next step's calls (without their number), and the step itself."""
    if talk.asks_for_summary():
        round_, slot = talk.place() or (0, -1)
        return "", Move(f"Summary. {mark(round_, max(slot, 0))}", ())
    round_, slot = talk.place() or (0, -1)
    while True:
        round_, slot = (round_, slot + 1) if slot + 1 < len(SLOTS) else (round_ + 1, 0)
        if round_ >= len(who.attempts):
            reason = {"reason": f"all {len(who.attempts)} methods are tried"}
            return f"r{round_:03d}s{slot:02d}", Move("That is all.", (("finish", reason),))
        move = SLOTS[slot](Step(who, talk, round_))
        if move is not None:
            return f"r{round_:03d}s{slot:02d}", move


def personality(name: str, **options: Any) -> Personality:
    """A script by its name; `rounds` repeats its methods, other options replace its fields."""
    found = PERSONALITIES.get(name)
    if found is None:
        raise NotFound(f"no script {name!r}; there are {', '.join(sorted(PERSONALITIES))}")
    rounds = int(options.pop("rounds", len(found.attempts)))
    if not 1 <= rounds <= MOST_ROUNDS:
        raise BadInput(f"rounds: from 1 to {MOST_ROUNDS:,}, and is {rounds}")
    attempts = [found.attempts[i % len(found.attempts)] for i in range(rounds)]
    fields = {name: getattr(found, name) for name in found.__dataclass_fields__}
    return Personality(**{**fields, "attempts": attempts, **options})


def _recipes(*recipes: tuple[str, dict[str, Any], str]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(title, methods.recipe_source(title, recipe), hope)
        for title, recipe, hope in recipes
    )


PERSONALITIES: dict[str, Personality] = {
    who.name: who
    for who in (
        Personality(
            "elicitor",
            _recipes(
                (
                    "posterior of weak labels and zero-shot margin",
                    {"label": {"source": "posterior", "weight": 1.5}},
                    "What the strong model believes without training is evidence of its own.",
                ),
                (
                    "student blended with the zero-shot margin",
                    {"predict": {"kind": "blend", "weight": 0.5}},
                    "The margin may help at prediction time as well.",
                ),
                (
                    "zero-shot labels",
                    {"label": {"source": "zero_shot"}},
                    "A control: how far does elicitation get without the teacher?",
                ),
            ),
        ),
        Personality(
            "reweighter",
            (
                Attempt(
                    "the surer half, by class",
                    methods.CONFIDENT,
                    "The teacher is right more often where it is sure.",
                ),
                *_recipes(
                    (
                        "rows whose neighbours agree",
                        {"select": {"kind": "neighbours", "keep": 0.5, "k": 20}},
                        "Labels that differ from those of similar rows are probably wrong.",
                    ),
                    (
                        "weights by confidence",
                        {"train": {"weighting": "confidence"}},
                        "Instead of dropping rows, count them less.",
                    ),
                ),
            ),
        ),
        Personality(
            "combiner",
            _recipes(
                (
                    "EM posterior",
                    {"label": {"source": "em_posterior"}},
                    "How reliable the teacher is may depend on the row.",
                ),
                (
                    "rows where teacher and student agree",
                    {"select": {"kind": "agreement"}},
                    "Two sources that agree are seldom both wrong.",
                ),
                (
                    "half weak, half zero-shot labels",
                    {"label": {"source": "blend", "share": 0.5}},
                    "The plainest mixture, to compare with.",
                ),
            ),
        ),
        Personality(
            "distiller",
            _recipes(
                (
                    "one round of cross-fitted self-training",
                    {"train": {"rounds": 1}},
                    "A student's own labels for rows it was not trained on are smoother.",
                ),
                (
                    "an ensemble of five",
                    {"predict": {"members": 5}},
                    "Averages out the seed.",
                ),
                (
                    "two rounds and an ensemble of three",
                    {"train": {"rounds": 2}, "predict": {"members": 3}},
                    "Both together.",
                ),
            ),
        ),
        Personality(
            "simplifier",
            _recipes(
                (
                    "a linear head",
                    {"train": {"hidden": 0}},
                    "The teacher's mistakes are harder to fit than the concept.",
                ),
                ("smoothed labels", {"train": {"smoothing": 0.2}}, "Less to fit."),
                ("two epochs", {"train": {"epochs": 2}}, "Stop before the mistakes are learned."),
            ),
        ),
        Personality(
            "dynamicist",
            _recipes(
                (
                    "confident rows first",
                    {"train": {"order": "confident_first"}},
                    "What is learned first is hard to unlearn.",
                ),
                (
                    "auxiliary confidence loss",
                    {"train": {"loss": "aux_confidence"}},
                    "Lets the student disagree with the teacher late in training.",
                ),
                (
                    "loss window",
                    {"train": {"loss": "window"}},
                    "Rows that the student is sure about teach nothing more.",
                ),
            ),
        ),
        Personality(
            "pollster",
            (
                Attempt(
                    "mean of all teachers",
                    methods.TEACHERS,
                    "Different teachers make different mistakes.",
                ),
                Attempt(
                    "rows on which all teachers agree",
                    methods.UNANIMOUS,
                    "Disagreement marks the rows that no teacher knows.",
                ),
            ),
        ),
        Personality(
            "majority",
            (
                Attempt(
                    "most frequent answer of the group",
                    methods.MAJORITY,
                    "Answers that many samples share should be right.",
                ),
            ),
        ),
        Personality(
            "executor",
            (
                Attempt(
                    "behaviour of the code",
                    methods.EXECUTE,
                    "Looks at what the code does on the examples in the question.",
                ),
            ),
        ),
        Personality(
            "flipper",
            (
                Attempt(
                    "the surer half, by class",
                    methods.CONFIDENT,
                    "A start from which to improve row by row.",
                ),
            ),
            flips=6,
        ),
    )
}
