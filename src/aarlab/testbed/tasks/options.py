"""Options that change a built task, apart from its rows. Loads neither numpy nor torch."""

from typing import Annotated, Literal

from pydantic import Field

from aarlab.core.options import Options
from aarlab.core.types import EVAL_SPLITS, Split
from aarlab.testbed.students.options import AdapterOptions, HeadOptions, TeacherOptions

Count = Annotated[int, Field(ge=2, le=256)]
LogLikelihoods = Literal["all", "evaluation", "sample", "none"]


class BuildOptions(Options):
    """Layers of the pair, training of teachers and students, numbers of seeds.

    `more_layers` of the strong model are stored too, for methods that look at several. `model`
    names the strong model where methods get it, in a sandbox too.

    With `log_likelihoods` "all", methods get the strong model's log-likelihoods of every row.
    Otherwise they get none and zero-shot methods do not run. "evaluation" and "sample" only measure
    how well the strong model judges without any label, on all rows of each evaluation split or on
    `log_likelihood_rows` of selection. "none" does not. Log-likelihoods cost about four times the
    states.

    The weak baseline is the mean over all teachers: the public ones, the fresh ones that
    verification uses, and as many more as `n_weak` asks for. Without `certify` that split keeps its
    inputs and truth, and its baselines and features are made by a later build. At most `twins`
    selection rows are kept in another style too, for the verifier's style probe.

    `plain_seeds` students learn from a weak teacher each, to measure how much that alone moves a
    score. Of students that train the model there are at most as many as there are ceilings.
    """

    pair: str
    weak_layer: Annotated[int, Field(ge=0)]
    strong_layer: Annotated[int, Field(ge=0)]
    more_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    teacher: TeacherOptions = TeacherOptions()
    student: HeadOptions = HeadOptions()
    adapter: AdapterOptions | None = None
    model: str | None = None
    log_likelihoods: LogLikelihoods = "all"
    log_likelihood_rows: Annotated[int, Field(ge=10)] = 200
    n_public: Count = 8
    n_fresh: Count = 8
    n_weak: Count = 16
    ceiling_seeds: Count = 16
    plain_seeds: Count = 16
    seed: Annotated[int, Field(ge=0)] = 0
    certify: bool = True
    teacher_row_ceiling: bool = True
    require_gap: bool = True
    twins: Annotated[int, Field(ge=0, le=10_000)] = 100

    @property
    def eval_splits(self) -> tuple[Split, ...]:
        """Return the splits with baselines and features."""
        return EVAL_SPLITS if self.certify else tuple(s for s in EVAL_SPLITS if s != "certify")

    @property
    def zero_shot(self) -> bool:
        """Return whether methods get log-likelihoods."""
        return self.log_likelihoods == "all"

    @property
    def student_layers(self) -> tuple[int, ...]:
        """Return the layers of the strong model whose states a method gets."""
        return tuple(sorted({self.strong_layer, *self.more_layers}))

    @property
    def weak_seeds(self) -> tuple[int, ...]:
        n = max(self.n_weak, self.n_public + self.n_fresh)
        return tuple(range(self.seed, self.seed + n))

    @property
    def ceiling_seeds_used(self) -> tuple[int, ...]:
        return tuple(range(self.seed, self.seed + self.ceiling_seeds))

    @property
    def plain_seeds_used(self) -> tuple[int, ...]:
        """Return the seeds of the plain students.

        Each learns from the weak teacher of the same seed.
        """
        most = self.plain_seeds if self.adapter is None else self.ceiling_seeds
        return self.weak_seeds[: min(self.plain_seeds, most)]

    @property
    def public_seeds(self) -> tuple[int, ...]:
        return self.weak_seeds[: self.n_public]

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        return self.weak_seeds[self.n_public : self.n_public + self.n_fresh]
