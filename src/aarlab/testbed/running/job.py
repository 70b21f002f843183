"""A method run as a file: what to run on what, and what comes out.

This module loads neither numpy nor torch.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from aarlab.core.errors import BadInput
from aarlab.core.options import explain
from aarlab.core.types import Split
from aarlab.core.wire import Ablation, Predictions, Run

PREDICTIONS = "predictions.json"
ERROR = "error.json"


class JobModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeedPair(JobModel):
    """One run: which weak teacher labelled the train rows, and the method's own seed."""

    teacher_seed: int
    seed: int


NO_TEACHER = 0  # stands for a teacher seed where the research problem has no weak labels


def teacher_of(run: int, teachers: Sequence[int]) -> int:
    """Return the weak teacher of a run, each in turn; NO_TEACHER where there is none."""
    return teachers[run % len(teachers)] if teachers else NO_TEACHER


def turns(teachers: Sequence[int], seeds: Iterable[int]) -> list[SeedPair]:
    """Pair the seed of each run with the weak teacher of the run."""
    return [
        SeedPair(teacher_seed=teacher_of(run, teachers), seed=seed)
        for run, seed in enumerate(seeds)
    ]


class Job(JobModel):
    """Paths as the process that runs the method sees them.

    `public` is a task's public folder. Without the optional paths the search split is predicted
    from the public weak labels; verification passes its own rows, labels and features.
    `train_inputs` are train rows in the place of the task's public ones, with their `weak_labels`.
    `model` is the strong model's folder where methods get it, `lower` files of lower states besides
    the task's own. `ablation` replaces the weak labels: permuted over the rows, uniform noise, or
    flipped. It is drawn again for each run. `probe` also delivers the rows alone, crowded and
    shuffled. Before that it delivers them once with `twins`, a file of inputs, in the place of
    their rows (see `controls`).
    """

    method: Path
    public: Path
    runs: list[SeedPair]
    split: Split = "search"
    eval_inputs: Path | None = None
    train_inputs: Path | None = None
    weak_labels: Path | None = None
    features: list[Path] = []
    model: Path | None = None
    lower: list[Path] = []
    ablation: Ablation = "none"
    diagnostics: bool = True
    probe: bool = False
    twins: Path | None = None


class StyleMoved(JobModel):
    """Share of rows whose answer their twin changed, and the mean |change of P(label 1)|."""

    flipped: FiniteFloat
    moved: FiniteFloat


class RunRecord(JobModel):
    """Cost and label-free diagnostics of one run."""

    seed: int
    teacher_seed: int
    seconds: FiniteFloat
    compute: dict[str, FiniteFloat]
    diagnostics: dict[str, FiniteFloat]
    changed: dict[str, FiniteFloat] = {}
    style: StyleMoved | None = None


class JobOutput(JobModel):
    """`predictions.json`: probabilities per seed in the order of `ids`."""

    task: str
    split: Split
    ablation: Ablation
    ids: list[str]
    runs: list[Run]
    records: list[RunRecord]
    seconds: FiniteFloat

    def predictions(self) -> Predictions:
        return Predictions(self.ids, self.runs)


class JobError(JobModel):
    """`error.json`: the message may be shown to the method's author; no label was near it."""

    code: str
    message: str


def read_job(path: Path) -> Job:
    try:
        return Job.model_validate_json(path.read_bytes())
    except OSError as error:
        raise BadInput(f"cannot read job {path}: {error.strerror}") from error
    except ValidationError as error:
        raise BadInput(explain(str(path), error)) from error
