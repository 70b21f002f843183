"""What noise on blind states and their one length stop, and what they cost methods.

    AARLAB_HOME=... OPENBLAS_NUM_THREADS=1 python benchmarks/noise.py --task oversight NAME,NAME

Two tables. The first is an attack that knows the wall: a turn keeps the lengths of the two answers
of a pair and their distance, so the author, who has the texts and therefore the states, ships these
marks of all rows in all layers with the true labels, and takes the label of the nearest. It needs
neither a head nor axes. It says which share of the hidden train rows is found again, and of which
the label is right. One author knows which rows those are and how they are whitened, which nobody
does; the other measures the marks on public rows. The second table runs methods as `rounding.py`
does, without sandbox and probes, without noise, with noise, and with noise and one length: PGR, and
PGR less that without noise. With `--lengths` states keep their lengths in the first table. Figures:
benchmarks/blind.md.
"""

import argparse
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "tests" / "kit"))
sys.path.insert(0, str(HERE))
sys.path.insert(0, str(HERE / "attackers"))

import numpy as np
from numpy.typing import NDArray

from aarlab.cli.operator import open_scorer
from aarlab.cli.settings import data_root
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.core.wire import Predictions
from aarlab.testbed.running.method_folder import write_method
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.tasks.task import open_public
from aarlab.verify import basis
from aarlab.verify.basis import Table
from aarlab.verify.hidden import held_for
from aarlab.verify.judge import Holding
from blind import labels_of
from rounding import predicted, text_of
from state_attacks import files_of

Floats = NDArray[np.float64]
CLOUD = 500  # rows whose answers stand for the law of all


def as_it_is(states_UK: NDArray[np.float32]) -> NDArray[np.float32]:
    """Stand in for `basis.even` where states keep their lengths."""
    return states_UK


WALLS = (0.0, as_it_is), (0.1, as_it_is), (0.1, basis.even)


def marks(
    table: Table, rows: Sequence[Example], seed: int, cloud: Sequence[Example], moments: bool
) -> Floats:
    """Return what a turn keeps of each row (N, F), as the run with this seed is given it.

    In each layer: the lengths of its answers and their distance. With `moments`, in each pair of
    layers: means over the answers of `cloud` of products of powers of inner products with them.
    Marks that do not vary are left out.
    """
    given = {
        layer: table.turned(
            layer, "secret", lambda layer=layer: np.random.default_rng([seed, layer])
        )
        for layer in table.features.layers()
    }
    found: list[Floats] = []
    inner: list[Floats] = []
    for states_UK in given.values():
        of_NAK = states_UK[table.places(rows)].reshape(len(rows), -1, states_UK.shape[1])
        found.append(np.linalg.norm(of_NAK, axis=2))
        if of_NAK.shape[1] == 2:
            found.append(np.linalg.norm(of_NAK[:, 0] - of_NAK[:, 1], axis=1)[:, None])
        scale = float(np.mean(np.linalg.norm(of_NAK, axis=2) ** 2)) / np.sqrt(states_UK.shape[1])
        bank_BK = states_UK[table.places(cloud)]
        inner.append(of_NAK @ bank_BK.T / scale)
    for one, first_NAB in enumerate(inner if moments else []):
        found += [np.mean(first_NAB**power, axis=2) for power in (1, 2, 3, 4)]
        found += [np.mean(np.abs(first_NAB) ** 0.5, axis=2), np.max(first_NAB, axis=2)]
        for other_NAB in inner[:one]:
            found += [
                np.mean(first_NAB**p * other_NAB**q, axis=2)
                for p, q in ((1, 1), (2, 1), (1, 2), (2, 2), (3, 1), (1, 3))
            ]
    marks_NF = np.hstack(found).astype(np.float64)
    return marks_NF[:, marks_NF.std(axis=0) > 1e-4 * np.abs(marks_NF).mean(axis=0)]


@dataclass
class Both:
    """A FeatureSource of public rows and of a run's; what of it `Table` asks for."""

    public: StoredFeatures
    run: StoredFeatures
    own: frozenset[str]  # ids of public rows

    def states(self, rows: Sequence[Example], layer: int) -> NDArray[np.float32]:
        public = [row for row in rows if row.id in self.own]
        rest = [row for row in rows if row.id not in self.own]
        parts = [
            source.states(some, layer)
            for source, some in ((self.public, public), (self.run, rest))
            if some
        ]
        order = {row.id: at for at, row in enumerate([*public, *rest])}
        return np.concatenate(parts)[[order[row.id] for row in rows]]

    def layers(self) -> tuple[int, ...]:
        return self.run.layers()


@dataclass
class Author:
    """Marks of the rows of a run as their author has them: whitened, and measured, on public rows.

    The author has the texts of a shipped set, and so the states of every row, but not the deal.
    """

    table: Table
    cloud: Sequence[Example]

    @classmethod
    def of(cls, root: DataRoot, task: str, held: Holding) -> "Author":
        public = open_public(root.public_task(task))
        features = StoredFeatures.open(sorted((public.folder / "features").glob("*.npz")))
        both = Both(features, held.features, frozenset(row.id for row in public.train))
        table = Table(both, public.train, (*held.train, *held.rows))  # type: ignore[arg-type]
        return cls(table, public.train[:CLOUD])


def known(
    given: Table, author: Author, rows: Sequence[Example], labels_N: Floats, moments: bool
) -> str:
    """Return the shares of rows that are found again, and whose label is."""
    given_NF = marks(given, rows, 1, given.train[:CLOUD], moments)
    tried_NF = marks(author.table, rows, 3, author.cloud, moments)
    was, basis.NOISE = basis.NOISE, 0.0
    shipped_NF = marks(author.table, rows, 2, author.cloud, moments)
    basis.NOISE = was
    # The author can try the wall out: what the noise does to the marks on average, and its law.
    off_NF = tried_NF - shipped_NF
    spread_FF = np.cov(off_NF.T) + 1e-3 * np.diag(shipped_NF.var(axis=0))
    white_FF = np.linalg.cholesky(np.linalg.inv(spread_FF))
    shipped_NF = standard(shipped_NF) @ white_FF
    given_NF = standard(given_NF) @ white_FF
    far_NN = (shipped_NF**2).sum(axis=1)[None, :] - 2 * given_NF @ shipped_NF.T
    nearest_N = far_NN.argmin(axis=1)
    found_N = nearest_N == np.arange(len(rows))
    return f"{found_N.mean():.1%}, {(labels_N[nearest_N] == labels_N).mean():.1%}"


def standard(marks_NF: Floats) -> Floats:
    """Centre the marks of both sides alike: whitening and cloud are not quite the same."""
    return marks_NF - np.median(marks_NF, axis=0)


def truth(root: DataRoot, task: str, split: str, rows: Sequence[Example]) -> Floats:
    told = labels_of(root, task, split)
    return np.array([told[row.id] for row in rows], np.float64)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", help="methods, recipes or attacks, with commas; or -")
    parser.add_argument("--task", default="oversight")
    parser.add_argument("--seeds", type=int, default=8)
    parser.add_argument("--noise", default="0,.1,.2,.3")
    parser.add_argument("--lengths", action="store_true", help="leave states their lengths")
    given = parser.parse_args()
    root, task = data_root(), given.task
    noises = [float(one) for one in given.noise.split(",")]
    if given.lengths:
        basis.even = as_it_is
    held, _ = held_for(root, task, "selection", "secret")
    of_train = truth(root, task, "train_hidden", held.train)
    authors = Author(held.table, held.train[:CLOUD]), Author.of(root, task, held)
    print(
        "| noise | knows the deal: 9 marks | with moments | public rows: 9 marks | with moments |"
    )
    for basis.NOISE in noises:
        cells = [
            known(held.table, author, held.train, of_train, moments)
            for author in authors
            for moments in (False, True)
        ]
        print(f"| {basis.NOISE} | {' | '.join(cells)} |", flush=True)
    if given.names == "-":
        return
    scorer = open_scorer(root)
    print("| method | none | less none | noise | less none | noise, one length | less none |")
    for name in given.names.split(","):
        cells, first = [name], None
        with tempfile.TemporaryDirectory() as place:
            write_method(Path(place), files_of(name, {}, texts=False))
            for basis.NOISE, basis.even in WALLS:
                found: Predictions = predicted(held, Path(place), given.seeds, False)
                first = first or found
                pgr = scorer.estimate(task, "selection", found)
                less = scorer.difference(task, "selection", found, first)
                cells += [text_of(pgr), text_of(less)]
        print("|", " | ".join(cells), "|", flush=True)


if __name__ == "__main__":
    main()
