"""Does a method folder keep the contract? `python -m aarlab.testbed.checking FOLDER OUT.json`.

Runs the method on a toy task of each kind and collects what it finds: violations, which the
platform would refuse or flag, and notes. Not covered: what the method does to this
process; a stranger's folder belongs in a sandbox (`aarlab campaign`), not here.
"""

import inspect
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from aarlab.core.errors import MethodFailed
from aarlab.core.files import write_atomic
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.contract import Fit, Predictor, checked_predictions
from aarlab.testbed.method_folder import guarded, load_method
from aarlab.testbed.task import TrainTask
from aarlab.testbed.toy import Toy, make_toy

KINDS: tuple[TaskKind, ...] = ("verification", "preference")
SLOW_S, TOLERANCE = 20.0, 1e-5
NO_FEATURES = "no stored features", "stored features only"
Floats64 = NDArray[np.float64]


class Finding(BaseModel):
    """`what` was found, on which kind of rows, and how to mend it."""

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

    folder: Path
    fit: Fit
    toy: Toy
    findings: list[Finding] = field(default_factory=list)

    def violation(self, what: str, mend: str) -> None:
        self._add("violation", what, mend)

    def note(self, what: str, mend: str) -> None:
        self._add("note", what, mend)

    def _add(self, level: Literal["violation", "note"], what: str, mend: str) -> None:
        kind = self.toy.task.kind
        self.findings.append(Finding(level=level, kind=kind, what=what, mend=mend))

    def run(self, seed: int) -> tuple[Predictor, Floats64]:
        return guarded(self.folder, lambda: self._fit_and_predict(seed))

    def _fit_and_predict(self, seed: int) -> tuple[Predictor, Floats64]:
        predictor = self.fit(self.toy.task, self.toy.student(), seed)
        return predictor, checked_predictions(predictor, self.toy.rows)

    def predict(self, predictor: Predictor, rows: Sequence[Example]) -> Floats64:
        return guarded(self.folder, lambda: checked_predictions(predictor, rows))


def check_method(folder: Path) -> Report:
    """All that can be found; the same toy tasks each time."""
    try:
        own = load_method(folder)
        inspect.signature(own.module.fit).bind(object(), object(), 0)
        fit: Fit = own.fit
    except MethodFailed as error:
        mend = "method.py must import and define fit(task, student, seed)"
        return _broken(folder, str(error), mend)
    except TypeError as error:
        return _broken(folder, f"fit cannot be called with three arguments: {error}",
                       "define fit(task, student, seed)")  # fmt: skip
    findings: list[Finding] = []
    for kind in KINDS:
        check = _Check(folder, fit, make_toy(kind))
        _check_kind(check)
        findings += check.findings
    return Report(method=folder.name, findings=findings)


def _broken(folder: Path, what: str, mend: str) -> Report:
    finding = Finding(level="violation", kind="any", what=what, mend=mend)
    return Report(method=folder.name, findings=[finding])


def _check_kind(check: _Check) -> None:
    before, files = _fingerprint(check.toy.task), _files(check.folder)
    random_before, begun = _random_state(), time.monotonic()
    try:
        predictor, probs_N = check.run(1)
    except MethodFailed as error:
        _explain_failure(check, str(error))
        return
    seconds = time.monotonic() - begun
    if _fingerprint(check.toy.task) != before:
        check.violation("changes the task it was given", "copy arrays before you change them")
    if _random_state() != random_before:
        check.note(
            "uses numpy's global random state",
            "use np.random.default_rng(seed): runs side by side disturb each other",
        )
    if _files(check.folder) != files:
        check.note("writes files into its own folder", "the platform's copy is read-only")
    if seconds > SLOW_S:
        n = len(check.toy.task.inputs)
        check.note(f"took {seconds:.0f} s on {n} rows", "trials have a time limit")
    _check_repeats(check, probs_N)
    _check_rows(check, predictor, probs_N)


def _explain_failure(check: _Check, what: str) -> None:
    if any(words in what for words in NO_FEATURES):
        check.note(f"asks for features that a task does not store: {what}",
                   "it runs only where the model is: aarlab method run")  # fmt: skip
        return
    check.violation(what, "fit returns an object whose predict_proba(inputs) gives an array (N,) "
                          "of probabilities in [0, 1]")  # fmt: skip


def _check_repeats(check: _Check, probs_N: Floats64) -> None:
    _, again_N = check.run(1)
    _, other_N = check.run(2)
    if not np.allclose(again_N, probs_N, atol=TOLERANCE):
        check.violation(
            f"the same seed gives other predictions (up to {np.abs(again_N - probs_N).max():.2g})",
            "take every random draw from np.random.default_rng(seed), and give students a seed",
        )
    elif np.allclose(other_N, probs_N, atol=TOLERANCE):
        check.note("ignores its seed", "fine for a deterministic method; its interval then has no "
                                       "seed part")  # fmt: skip


def _check_rows(check: _Check, predictor: Predictor, probs_N: Floats64) -> None:
    """Predictions of rows alone, in another order, and with their answers swapped."""
    rows = check.toy.rows
    order_N = np.random.default_rng(0).permutation(len(rows))
    shuffled_N = check.predict(predictor, [rows[i] for i in order_N])
    alone_N = np.concatenate([check.predict(predictor, [row]) for row in rows[:8]])
    if not np.allclose(shuffled_N, probs_N[order_N], atol=TOLERANCE):
        check.violation("a prediction depends on the order of the rows", "predict row by row")
    elif not np.allclose(alone_N, probs_N[:8], atol=TOLERANCE):
        check.violation(
            "a prediction depends on which other rows are asked for",
            "predict row by row: the platform also delivers rows alone, and a method that leans on "
            "the other answers to a problem is flagged as a shortcut",
        )
    if check.toy.task.kind == "preference":
        swapped = [replace(row, answers=row.answers[::-1]) for row in rows]
        gap = float(np.abs(check.predict(predictor, swapped) + probs_N - 1).mean())
        if gap > 0.01:
            check.note(f"swapping the answers does not swap the prediction (mean gap {gap:.2f})",
                       "average both orders: (p + 1 - p_swapped) / 2")  # fmt: skip


def _fingerprint(task: TrainTask) -> bytes:
    return task.weak_labels_N.tobytes() + task.teacher_labels_SN.tobytes()


def _random_state() -> bytes:
    return np.random.get_state(legacy=False)["state"]["key"].tobytes()  # type: ignore[no-any-return]


def _files(folder: Path) -> list[tuple[str, int]]:
    found = (p for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts)
    return sorted((str(p), p.stat().st_mtime_ns) for p in found)


def main(argv: list[str]) -> int:
    if len(argv) != 2:
        sys.stderr.write("usage: python -m aarlab.testbed.checking FOLDER OUT.json\n")
        return 2
    write_atomic(Path(argv[1]), check_method(Path(argv[0])).model_dump_json(indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
