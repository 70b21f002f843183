"""What changes a built task, besides its rows. Loads neither numpy nor torch."""

from typing import Annotated

from pydantic import Field

from aarlab.core.types import EVAL_SPLITS, Split
from aarlab.testbed.options import AdapterOptions, HeadOptions, Options, TeacherOptions

Count = Annotated[int, Field(ge=2, le=256)]


class BuildOptions(Options):
    """Layers of the pair, training of teachers and students, numbers of seeds.

    `more_layers` of the strong model are stored too, for methods that look at several. `model`
    names the strong model where methods get it at hand, in a sandbox too. Without `zero_shot` no
    log-likelihoods are stored: what asks for them fails, or computes them where a model is at hand.

    The weak baseline is the mean over all teachers: the public ones, the fresh ones that
    verification uses, and as many more as `n_weak` asks for. Without `certify` that split keeps
    its inputs and truth, and its baselines and features are made by a later build. At most `twins`
    selection rows are kept in another style too, for the verifier's style probe.

    `plain_seeds` students learn from a weak teacher each, to measure how much that alone moves a
    score; of students that train the model as many as there are ceilings, at most.
    """

    pair: str
    weak_layer: Annotated[int, Field(ge=0)]
    strong_layer: Annotated[int, Field(ge=0)]
    more_layers: tuple[Annotated[int, Field(ge=0)], ...] = ()
    teacher: TeacherOptions = TeacherOptions()
    student: HeadOptions = HeadOptions()
    adapter: AdapterOptions | None = None
    model: str | None = None
    zero_shot: bool = True
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
        """Splits with baselines and features."""
        return EVAL_SPLITS if self.certify else tuple(s for s in EVAL_SPLITS if s != "certify")

    @property
    def student_layers(self) -> tuple[int, ...]:
        """Layers of the strong model whose states a method gets."""
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
        """Seeds of the plain students; each learns from the weak teacher of the same seed."""
        most = self.plain_seeds if self.adapter is None else self.ceiling_seeds
        return self.weak_seeds[: min(self.plain_seeds, most)]

    @property
    def public_seeds(self) -> tuple[int, ...]:
        return self.weak_seeds[: self.n_public]

    @property
    def fresh_seeds(self) -> tuple[int, ...]:
        return self.weak_seeds[self.n_public : self.n_public + self.n_fresh]
