"""Check a method folder against the contract.

Run it as `python -m aarlab.testbed.running.checking FOLDER OUT.json`.

It runs the method on a toy task of each kind and collects notes and violations, which the platform
would refuse or flag. Each has the author's line where there is one. `OUT.json.stage` holds the
current step.
Not covered: what the method does to this process. Run an untrusted folder in a sandbox (`aarlab
campaign`), not here.

A toy is a weak-to-strong task in memory, made in milliseconds. It is for checking methods, not for
results. States are Gaussian and depend on an answer's text alone. The strong layers show the truth
clearly and a spurious cue hardly at all; the weak layer does the opposite.
Legend: N rows, A answers, D state width.
"""

import hashlib
import inspect
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from aarlab.core.errors import BadInput, MethodFailed, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.running.actions import Action, Kind, Watch, watched_rows
from aarlab.testbed.running.contract import Predictor, checked_predictions
from aarlab.testbed.running.method_folder import OwnMethod, load_method
from aarlab.testbed.students.features import AnswerLogp
from aarlab.testbed.students.generation import Texts
from aarlab.testbed.students.options import GenerateOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.students.templates import ASKED, ASKED_CHARACTERS
from aarlab.testbed.students.train import expit
from aarlab.testbed.tasks.train_task import TrainTask

WIDTH, PROBLEM_ROWS, MISLED = 16, 4, 0.3
STRONG_LAYER = 3
STRENGTH = {1: (0.6, 0.3), 2: (0.8, 0.3), STRONG_LAYER: (1.2, 0.2)}  # truth, cue; per layer


@dataclass(frozen=True, slots=True)
class ToySource:
    """A FeatureSource over the toy's own texts and templates about them; NotFound for any other."""

    truth: dict[str, tuple[int, int]]
    asked: set[tuple[str, str]] = field(default_factory=set)  # of templates: text and answer

    def states(self, examples: Sequence[Example], layer: int) -> NDArray[np.float32]:
        if layer not in STRENGTH:
            raise BadInput(f"no states of layer {layer}; stored are layers {sorted(STRENGTH)}")
        rows = [[self._state(e.prompt, answer, layer) for answer in e.answers] for e in examples]
        return np.array(rows, np.float32)

    def answer_logp(self, examples: Sequence[Example]) -> AnswerLogp:
        shape = (len(examples), len(examples[0].answers))
        answers = [answer for e in examples for answer in e.answers]
        alone = np.array([-20 - 5 * _random(a, 7).normal() for a in answers])
        texts = [e.prompt for e in examples for _ in e.answers]
        right = [self._of(text, a)[0] for text, a in zip(texts, answers, strict=True)]
        gain = np.array(
            [
                0.6 * (2 * truth - 1) + _random(a if a in self.truth else text + a, 8).normal()
                for truth, text, a in zip(right, texts, answers, strict=True)
            ]
        )
        tokens = np.array([10 + int(_random(a, 9).integers(5)) for a in answers], np.int32)
        given = (alone + gain).astype(np.float32)
        return AnswerLogp(
            given.reshape(shape), alone.astype(np.float32).reshape(shape), tokens.reshape(shape)
        )

    def layers(self, examples: Sequence[Example]) -> tuple[int, ...]:
        return tuple(STRENGTH)

    def _of(self, text: str, answer: str) -> tuple[int, int]:
        if (text, answer) in self.asked:
            first, second = _random(text + answer, 6).integers(2, size=2)
            return int(first), int(second)
        if answer not in self.truth:
            raise NotFound(f"no stored features for the answer {answer[:40]!r}: not of this task")
        return self.truth[answer]

    def _state(self, text: str, answer: str, layer: int) -> NDArray[np.float64]:
        truth, cue = self._of(text, answer)
        known = answer if answer in self.truth else text + answer
        state = _random(known, layer).normal(size=WIDTH)
        signal, spurious = STRENGTH[layer]
        state[0] += signal * (2 * truth - 1)
        state[1] += spurious * (2 * cue - 1)
        return state


class ToyStudents(StudentFactory):
    """Students of a toy: what is asked about its rows gets answers that mean nothing."""

    def ask(self, *words: Any, **more: Any) -> tuple[Example, ...]:
        assert isinstance(self.source, ToySource)
        rows = super().ask(*words, **more)
        self.source.asked.update((row.prompt, answer) for row in rows for answer in row.answers)
        return rows

    def generate(
        self,
        inputs: Sequence[Example],
        template: str,
        n: int = 1,
        options: GenerateOptions | None = None,
    ) -> list[Any]:
        rows = super().ask(inputs, template)
        return [
            Texts(tuple(f" {_random(row.prompt, at).integers(10**6)}" for row in rows))
            for at in range(n)
        ]

    def tuned(self, *_: Any, **__: Any) -> StudentFactory:
        return self


@dataclass(frozen=True, slots=True)
class Toy:
    """A train task, rows to predict, and what makes students."""

    task: TrainTask
    rows: tuple[Example, ...]
    source: ToySource

    def student(self) -> StudentFactory:
        return ToyStudents(self.source, STRONG_LAYER)


def make_toy(kind: TaskKind, n_train: int = 160, n_rows: int = 48, seed: int = 0) -> Toy:
    """Make a toy; three noisy weak teachers label the train rows and lean on the cue."""
    rng, truth = np.random.default_rng(seed), dict[str, tuple[int, int]]()
    examples = [_example(kind, number, rng, truth) for number in range(n_train + n_rows)]
    train, rows = tuple(examples[:n_train]), tuple(examples[n_train:])
    first = np.array([truth[e.answers[0]] for e in train])
    leaning_N = 0.5 * (2 * first[:, 0] - 1) + 0.9 * (2 * first[:, 1] - 1)
    labels_SN = expit(leaning_N + rng.normal(0, 0.6, (3, n_train)))
    task = TrainTask(
        name="toy",
        kind=kind,
        inputs=train,
        weak_labels_N=labels_SN[0],
        groups=tuple(e.group for e in train),
        split_sizes={"train": n_train, "search": n_rows},
        teacher_labels_SN=labels_SN,
    )
    return Toy(task, rows, ToySource(truth))


def _example(
    kind: TaskKind, number: int, rng: np.random.Generator, truth: dict[str, tuple[int, int]]
) -> Example:
    target = int(rng.integers(2))
    answers = tuple(f"answer {number}{letter}, {rng.integers(10**9)}" for letter in "ab")
    for answer, right in zip(answers, (target, 1 - target), strict=True):
        truth[answer] = (right, right ^ int(rng.random() < MISLED))
    shown = answers if kind == "preference" else answers[:1]
    problem = f"problem {number // PROBLEM_ROWS}"
    return Example(f"toy-{number}", problem, f"question {problem}", shown)


def _random(text: str, salt: int) -> np.random.Generator:
    digest = hashlib.sha256(f"{salt}:{text}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "big"))


KINDS: tuple[TaskKind, ...] = ("verification", "preference")
SLOW_S, TOLERANCE = 20.0, 1e-5
ALONE = 8  # rows that are also predicted one at a time
ONE_BY_ONE = (
    "predict row by row: the platform also delivers rows alone, and a method that leans on the "
    "other answers to a problem is flagged as a shortcut"
)
ASKS = (
    "it runs on tasks built with the model (aarlab task build NAME --with-model); a verified run "
    f"counts and shows templates, at most {ASKED} of {ASKED_CHARACTERS:,} characters in all"
)
NO_FEATURES = "no stored features", "stored features only"
Floats64 = NDArray[np.float64]


class Finding(BaseModel):
    """`what` was found, on which kind of rows, and how to fix it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    level: Literal["violation", "note"]
    kind: str
    what: str
    mend: str


class Report(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
    method: str
    findings: list[Finding]

    @property
    def violations(self) -> list[Finding]:
        return [one for one in self.findings if one.level == "violation"]


@dataclass(slots=True)
class _Check:
    """One kind of rows; `findings` grows as the checks go."""

    own: OwnMethod
    toy: Toy
    watch: Watch
    tell: Callable[[str], None]
    findings: list[Finding] = field(default_factory=list)

    def violation(self, what: str, mend: str) -> None:
        self._add("violation", what, mend)

    def note(self, what: str, mend: str) -> None:
        self._add("note", what, mend)

    def _add(self, level: Literal["violation", "note"], what: str, mend: str) -> None:
        kind = self.toy.task.kind
        self.findings.append(Finding(level=level, kind=kind, what=what, mend=mend))

    def run(self, seed: int) -> tuple[Predictor, Floats64]:
        self.tell(f"{self.toy.task.kind} rows: fit with seed {seed}")
        predictor: Predictor = self.own.fit(self.toy.task, self.toy.student(), seed)
        self.tell(f"{self.toy.task.kind} rows: predict")
        return predictor, checked_predictions(predictor, self.toy.rows)


def check_method(
    folder: Path, scratch: Path | None = None, tell: Callable[[str], None] = lambda stage: None
) -> Report:
    """Run all checks on the method, on the same toy tasks each time.

    Files below `scratch` (default: the system's folder for temporary files) may be written.
    """
    with Watch.on(folder, scratch or Path(tempfile.gettempdir())) as watch:
        tell("import")
        try:
            own = load_method(folder)
            inspect.signature(own.module.fit).bind(object(), object(), 0)
        except MethodFailed as error:
            mend = "method.py must import and define fit(task, student, seed)"
            return _broken(folder, str(error), mend)
        except TypeError as error:
            where = own.line_of(own.module.fit)
            return _broken(
                folder,
                f"fit cannot be called with three arguments: {error}{where}",
                "define fit(task, student, seed)",
            )
        findings = [_of_action(action, "any") for action in watch.take()]
        for kind in KINDS:
            toy = make_toy(kind)
            toy = replace(
                toy,
                task=replace(toy.task, inputs=watched_rows(toy.task.inputs, watch)),
                rows=watched_rows(toy.rows, watch),
            )
            check = _Check(own, toy, watch, tell)
            _check_kind(check)
            findings += [*check.findings, *(_of_action(a, kind) for a in watch.take())]
    return Report(method=folder.name, findings=_once(findings))


MENDS: dict[Kind, str] = {
    "writes a file": "keep state in the predictor, or use tempfile: a verified run keeps no file",
    "uses the network": "a method runs without a network: ship what it needs in its folder",
    "starts a program": "a method may not start programs: call a library",
    "reads texts": "a verified run holds no texts, so this line fails there: ask the student "
    "(student.states, student.zero_shot, student.ask(rows, template), row.swapped(), "
    "task.same_answers()), or write READS_TEXT = True in method.py to be verified in the open "
    "class, in a table of its own",
}


def _of_action(action: Action, kind: str) -> Finding:
    level: Literal["violation", "note"] = "note" if action.kind == "reads texts" else "violation"
    what = f"{action.kind}: {action.what}\n  {action.line}"
    return Finding(level=level, kind=kind, what=what, mend=MENDS[action.kind])


def _once(findings: Sequence[Finding]) -> list[Finding]:
    """Return the findings without those already found on the other kind of rows."""
    return list({(one.level, one.what): one for one in reversed(findings)}.values())[::-1]


def _broken(folder: Path, what: str, mend: str) -> Report:
    finding = Finding(level="violation", kind="any", what=what, mend=mend)
    return Report(method=folder.name, findings=[finding])


def _check_kind(check: _Check) -> None:
    before, files = _fingerprint(check.toy.task), _files(check.own.folder)
    random_before, begun = _random_state(), time.monotonic()
    try:
        predictor, probs_N = check.run(1)
    except MethodFailed as error:
        _explain_failure(check, str(error))
        return
    seconds = time.monotonic() - begun
    if _fingerprint(check.toy.task) != before:
        check.violation(
            f"changes the task it was given{_line_of_change(check)}",
            "copy arrays before you change them",
        )
    if _random_state() != random_before:
        check.note(
            "uses numpy's global random state",
            "use np.random.default_rng(seed): runs side by side disturb each other",
        )
    seen = any(action.kind == "writes a file" for action in check.watch.found)
    if _files(check.own.folder) != files and not seen:
        check.violation("writes a file: into its own folder", MENDS["writes a file"])
    if seconds > SLOW_S:
        n = len(check.toy.task.inputs)
        check.note(f"took {seconds:.0f} s on {n} rows", "trials have a time limit")
    try:
        _check_repeats(check, probs_N)
    except MethodFailed as error:
        check.violation(f"fails when it is run again: {error}", "keep nothing between two fits")
    if check.toy.source.asked:
        check.note("asks the strong model about rows by templates", ASKS)
    check.tell(f"{check.toy.task.kind} rows: alone, shuffled, swapped")
    _check_rows(check, predictor, probs_N)


def _line_of_change(check: _Check) -> str:
    """Return the author's line that changes an array, or an empty string.

    It is the line at which `fit` fails on read-only label arrays.
    """
    task = make_toy(check.toy.task.kind).task
    for array in (task.weak_labels_N, task.teacher_labels_SN):
        array.flags.writeable = False
    try:
        check.own.fit(task, check.toy.student(), 1)
    except MethodFailed as error:
        _, line, rest = str(error).partition("\n")
        return line + rest
    return ""


def _explain_failure(check: _Check, what: str) -> None:
    if any(words in what for words in NO_FEATURES):
        check.note(
            f"asks for features that a task does not store: {what}",
            "it runs only where the model is: aarlab method run",
        )
        return
    mend = "fit returns an object whose predict_proba(inputs) gives an array (N,) of probabilities"
    if "not in [0, 1]" in what:
        mend += " in [0, 1]: turn logits into them, and replace what is not a number"
    check.violation(what, mend)


def _check_repeats(check: _Check, probs_N: Floats64) -> None:
    _, again_N = check.run(1)
    _, other_N = check.run(2)
    where = check.own.line_of(check.own.module.fit)
    if not np.allclose(again_N, probs_N, atol=TOLERANCE):
        check.violation(
            "the same seed gives other predictions (up to "
            f"{np.abs(again_N - probs_N).max():.2g}){where}",
            "take every random draw from np.random.default_rng(seed), and give students a seed",
        )
    elif np.allclose(other_N, probs_N, atol=TOLERANCE):
        check.note(
            "ignores its seed",
            "fine for a deterministic method; its interval then has no seed part",
        )


def _check_rows(check: _Check, predictor: Predictor, probs_N: Floats64) -> None:
    """Compare predictions of rows alone, in another order, and with their answers swapped."""
    rows, where = check.toy.rows, getattr(predictor, "where", "")
    order_N = np.random.default_rng(0).permutation(len(rows))
    try:
        shuffled_N = checked_predictions(predictor, [rows[i] for i in order_N])
        alone_N = np.concatenate([checked_predictions(predictor, [row]) for row in rows[:ALONE]])
    except MethodFailed as error:
        check.violation(
            f"a prediction depends on which other rows are asked for: with {len(rows)} rows it "
            f"gives predictions, with fewer or in another order it fails: {error}",
            ONE_BY_ONE,
        )
        return
    if not np.allclose(shuffled_N, probs_N[order_N], atol=TOLERANCE):
        check.violation(f"a prediction depends on the order of the rows{where}", ONE_BY_ONE)
    elif not np.allclose(alone_N, probs_N[:ALONE], atol=TOLERANCE):
        check.violation(
            f"a prediction depends on which other rows are asked for{where}", ONE_BY_ONE
        )
    if check.toy.task.kind == "preference":
        swapped = [row.swapped() for row in rows]
        gap = float(np.abs(checked_predictions(predictor, swapped) + probs_N - 1).mean())
        if gap > 0.01:
            check.note(
                f"swapping the answers does not swap the prediction (mean gap {gap:.2f})",
                "average both orders: (p + 1 - p_swapped) / 2",
            )


def _fingerprint(task: TrainTask) -> bytes:
    return task.weak_labels_N.tobytes() + task.teacher_labels_SN.tobytes()


def _random_state() -> bytes:
    return np.random.get_state(legacy=False)["state"]["key"].tobytes()  # type: ignore[no-any-return]


def _files(folder: Path) -> list[tuple[str, int]]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted((str(p), p.stat().st_mtime_ns) for p in found)


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        sys.stderr.write("usage: python -m aarlab.testbed.running.checking FOLDER OUT.json\n")
        return 2
    sys.dont_write_bytecode = True  # for libraries that the method imports first
    out, stage = Path(argv[1]), Path(f"{argv[1]}.stage")
    tempfile.tempdir = str(out.parent)
    report = check_method(Path(argv[0]), out.parent, lambda text: write_atomic(stage, text))
    write_atomic(out, report.model_dump_json(indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
