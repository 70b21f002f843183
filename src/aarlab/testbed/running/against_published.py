"""Our figures of a published setting next to the published ones, and how the settings differ."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from aarlab.core.pgr import Gap, Reported, less_reported
from aarlab.core.wire import Interval
from aarlab.testbed.models.catalogue import PAIRS
from aarlab.testbed.running.panel import PanelRow
from aarlab.testbed.tasks.published import Published, Setting

NOT_PUBLISHED = (
    "not published, so our choice: the wording of the question, no calibration of the teacher, "
    "rows that nearly repeat one of another split are dropped"
)


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure: ours over rows and seeds, the published one over its seeds, ours less that."""

    figure: str
    ours: Interval
    published: Interval
    difference: Interval


class Ran(NamedTuple):
    """What was run, as far as it may differ from what was published."""

    pair: str
    epochs: int
    seeds: int
    baseline_seeds: int
    train_rows: int
    test_rows: int
    computed: str  # float type and device


def compared(found: Published, gap: Gap, rows: Sequence[PanelRow]) -> list[Compared]:
    """Return weak teacher, ceiling, and each method that both have.

    Methods are compared in PGR, or in accuracy where our gap is not clear.
    """
    made = [
        _compared("weak teacher, accuracy", gap.weak, found.weak),
        _compared("ceiling, accuracy", gap.ceiling, found.ceiling),
    ]
    for row in rows:
        theirs = found.methods.get(_published_name(row.method))
        if theirs is None or row.accuracy is None:
            continue
        if row.pgr is not None:
            made.append(_compared(f"{row.method}, PGR", row.pgr, theirs.pgr))
        else:
            made.append(_compared(f"{row.method}, accuracy", row.accuracy, theirs.accuracy))
    return made


def _published_name(method: str) -> str:
    return "critic" if method == "critic_grpo" else method


def _compared(figure: str, ours: Interval, theirs: Reported) -> Compared:
    return Compared(figure, ours, theirs.interval(), less_reported(ours, theirs))


def differences(made: Setting, published: Setting, found: Published, ran: Ran) -> list[str]:
    """Return how what was run differs from what was published, a sentence each.

    `published` is the setting without any change. Empty if nothing that is known differs.
    """
    pairs = (
        ("pair of models", ran.pair, PAIRS[published.pair].title),
        ("epochs", ran.epochs, published.training.epochs),
        ("seeds of each method", ran.seeds, published.seeds),
        ("seeds of teacher and ceiling", ran.baseline_seeds, found.weak.n_seeds),
        ("rows of train_unlabel", f"{ran.train_rows:,}", f"{found.train_rows:,}"),
        ("rows of test", f"{ran.test_rows:,}", f"{found.test_rows:,}"),
        ("computed in", ran.computed, "bfloat16 on cuda"),
    )
    said = [f"{what}: {ours}, published {theirs}" for what, ours, theirs in pairs if ours != theirs]
    if made.adapter != published.adapter:
        said.append("adapter options: not those published")
    ours, theirs = (one.training.model_copy(update={"epochs": 1}) for one in (made, published))
    return said if ours == theirs else [*said, "training options: not those published"]
