"""What rounded log-likelihoods take from shipped heads, and what they leave methods that use them.

    AARLAB_HOME=... OPENBLAS_NUM_THREADS=1 python benchmarks/rounding.py NAME,NAME --seeds 8

Runs of the blind class without sandbox and probes: the same handed features, secret basis, seeds
and fresh teachers as in `aarlab.verify`, with exact and with rounded log-likelihoods. One line a
method: accuracy, PGR, and PGR less the plain student's. Figures: benchmarks/blind.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))
sys.path.insert(0, str(HERE))

import numpy as np
from new_cheats import CHEATS, files_of, notes_of
from numpy.typing import NDArray

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.types import Example
from aarlab.core.wire import Interval, Predictions, Run
from aarlab.testbed.methods.named_method import named_files
from aarlab.testbed.running.channel import Channel
from aarlab.testbed.running.method_folder import load_method, write_method
from aarlab.testbed.students.features import LOGP, AnswerLogp
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask, equality_words, student_settings
from aarlab.verify.hidden import held_for
from aarlab.verify.judge import Holding, Judge, Pair, channel_pair
from blind import FIRST_SEED, VANILLA, labels_of, public_labels


@dataclass
class Given:
    """A FeatureSource of what one run is given."""

    held: Holding
    judge: Judge
    exact: bool
    tables: dict[int, NDArray[np.float32]] = field(default_factory=dict)

    def states(self, rows: Sequence[Example], layer: int) -> NDArray[np.float32]:
        if layer not in self.tables:
            self.tables[layer] = self.held.table.turned(
                layer, "secret", lambda: self.judge._drawn(f"layer {layer}")
            )
        return self._rows(self.tables[layer], rows)

    def answer_logp(self, rows: Sequence[Example]) -> AnswerLogp:
        table = self.held.table.logp() if self.exact else self.judge._given_logp()
        given, alone, tokens = np.moveaxis(self._rows(table, rows), -1, 0)
        return AnswerLogp(given, alone, tokens.astype(np.int32))

    def layers(self, rows: Sequence[Example] = ()) -> tuple[int, ...]:
        return self.held.features.layers()

    def _rows(self, table: NDArray[np.float32], rows: Sequence[Example]) -> NDArray[np.float32]:
        found = table[self.held.table.places(rows)]
        return found.reshape(len(rows), -1, table.shape[1] if table.ndim == 2 else len(LOGP))


def predicted(held: Holding, folder: Path, seeds: int, exact: bool) -> Predictions:
    runs = []
    layer, options, _ = student_settings(held.info)
    for at in range(seeds):
        seed, teacher = FIRST_SEED + at, held.labels.seeds[at % len(held.labels.seeds)]
        judge = Judge(held, Pair(teacher, seed, "none"), Channel(channel_pair()[0], 1))
        order_N = np.random.default_rng(seed).permutation(len(held.train))
        labels_SN = held.labels.led_by(teacher)[:, order_N]
        rows = tuple(held.train[n] for n in order_N)
        task = TrainTask(
            name="task", kind=held.info.kind, inputs=rows, weak_labels_N=labels_SN[0],
            groups=tuple(row.group for row in rows),
            split_sizes={"train": len(rows), "search": held.info.n_search},
            teacher_labels_SN=labels_SN, ask_equality=lambda rows=rows: equality_words(rows),
        )  # fmt: skip
        student = StudentFactory(Given(held, judge, exact), layer, options)
        probs_N = load_method(folder).fit(task, student, seed).predict_proba(held.rows)
        runs.append(Run(seed=seed, probs=[float(p) for p in probs_N]))
    return Predictions([row.id for row in held.rows], runs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", help="cheats or built-in methods, with commas")
    parser.add_argument("--task", default="math")
    parser.add_argument("--seeds", type=int, default=8)
    given = parser.parse_args()
    root, task = data_root(), given.task
    held = held_for(root, task, "selection", "secret")[0]
    notes, scorer = notes_of(root, task, public_labels(root, task)), open_scorer(root)
    truth = labels_of(root, task, "selection")
    labels_N = np.array([truth[row.id] for row in held.rows])
    plain: dict[bool, Predictions] = {}
    for name in dict.fromkeys([VANILLA, *given.names.split(",")]):
        cells = [name]
        with tempfile.TemporaryDirectory() as place:
            files = files_of(name, notes, texts=False) if name in CHEATS else named_files(name)
            write_method(Path(place), files)
            for exact in (True, False):
                found = predicted(held, Path(place), given.seeds, exact)
                plain.setdefault(exact, found)
                right = [(np.array(run.probs) > 0.5) == labels_N for run in found.runs]
                pgr = scorer.estimate(task, "selection", found)
                less = scorer.difference(task, "selection", found, plain[exact])
                cells += [f"{np.mean(right):.3f}", text_of(pgr), text_of(less)]
        print("|", " | ".join(cells), "|", flush=True)


def text_of(span: Interval) -> str:
    return f"{span.value:+.2f} [{span.low:+.2f}, {span.high:+.2f}]"


if __name__ == "__main__":
    main()
