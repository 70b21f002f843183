"""Options of training: frozen, strict, JSON round-trip. Imports neither torch nor numpy."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from aarlab.core.errors import BadInput
from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS

LossName = Literal[
    "ce", "aux_confidence", "entropy", "product", "window", "reverse_kl", "reverse_ce"
]


class Options(BaseModel):
    """Base of all options: an unknown name or a value out of range raises BadInput naming it."""

    # A verified run loads this for each seed: a schema is made where it is used first.
    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, allow_inf_nan=False, defer_build=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            what = type(self).__name__.removesuffix("Stage").removesuffix("Options").lower()
            raise BadInput(explain(what, error)) from error


def explain(what: str, error: ValidationError) -> str:
    """Return one line per wrong field: where it is, what is expected, what was given."""
    lines = []
    for item in error.errors(include_url=False):
        place = ".".join(str(part) for part in item["loc"]) or "value"
        lines.append(f"{what}.{place}: {item['msg']} (got {item['input']!r})")
    return "; ".join(lines)


class HeadOptions(Options):
    """Training of one head. `hidden` 0 is a linear head; the learning rate falls linearly to 0."""

    hidden: Annotated[int, Field(ge=0, le=4096)] = 64
    epochs: Annotated[int, Field(ge=1, le=200)] = 10
    lr: Annotated[float, Field(gt=0, le=1)] = 3e-3
    weight_decay: Annotated[float, Field(ge=0, le=100)] = 0.1
    batch: Annotated[int, Field(ge=2, le=4096)] = 32
    loss: LossName = "ce"
    smoothing: Annotated[float, Field(ge=0, lt=1)] = 0.0
    a_max: Annotated[float, Field(ge=0, le=1)] = 0.5
    alpha: Annotated[float, Field(ge=0, le=4)] = 1.0
    beta: Annotated[float, Field(ge=0, le=4)] = 1.0
    radius: Annotated[float, Field(gt=0, le=0.5)] = 0.15
    seed: Annotated[int, Field(ge=0)] = 0


class AdapterOptions(Options):
    """Training of the strong model itself, below a linear head on its mean answer state.

    `kind` is the name of an adaptation (`adapters/adaptation.py`). top_blocks: LoRA on the upper
    `blocks` blocks over lower states that are computed once; lora: on every block; full: all
    weights of every block. LoRA has rank `rank` and scale alpha / rank on all matrices of a block.
    Learning rate and epochs are those of `HeadOptions`. With readout
    "labels" there is no head: the row is put as a question, and the log-odds of the two label
    tokens that may follow are the prediction.
    """

    kind: str = "top_blocks"
    blocks: Annotated[int, Field(ge=1, le=128)] = 3
    rank: Annotated[int, Field(ge=1, le=1024)] = 8
    alpha: Annotated[float, Field(gt=0, le=4096)] = 16.0
    readout: Literal["mean", "labels"] = "mean"

    @field_validator("kind")
    @classmethod
    def _known(cls, kind: str) -> str:
        if kind not in ADAPTATIONS:
            raise ValueError(ADAPTATIONS.unknown(kind))
        return kind

    def lowest(self, layer: int) -> int:
        """Return the number of blocks below a student's layer that never change."""
        return ADAPTATIONS.get(self.kind).lowest(self, layer)


ADAPTED_CEILINGS = 4  # seeds of a ceiling that takes half a minute each


def embedded_adapter() -> tuple[AdapterOptions, HeadOptions]:
    """Return the embedded pair's `top_blocks`: LoRA r = 8 on 3 blocks, lr 2e-3, 3 epochs."""
    return AdapterOptions(), HeadOptions(hidden=0, epochs=3, lr=2e-3, weight_decay=0.0)


def published_adapter() -> tuple[AdapterOptions, HeadOptions]:
    """Return the study's LoRA: r = 32 on every block, two label tokens at one position.

    Training: lr 1e-4, 5 epochs, batch 32, linear schedule.
    """
    adapter = AdapterOptions(kind="lora", rank=32, alpha=32.0, readout="labels")
    return adapter, HeadOptions(hidden=0, epochs=5, lr=1e-4, weight_decay=0.0, batch=32)


class GenerateOptions(Options):
    """Writing text: at most `max_new` tokens, up to the first stop string.

    Temperature 0 is greedy.
    """

    max_new: Annotated[int, Field(ge=1, le=4096)] = 64
    temperature: Annotated[float, Field(ge=0, le=10)] = 0.0
    stop: tuple[str, ...] = ()
    batch: Annotated[int, Field(ge=1, le=1024)] = 16
    seed: Annotated[int, Field(ge=0)] = 0


class GrpoOptions(Options):
    """Policy gradients by groups (GRPO) through trl; defaults are the study's."""

    steps: Annotated[int, Field(ge=1, le=10_000)] = 50
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-5
    kl: Annotated[float, Field(ge=0, le=10)] = 0.02
    generations: Annotated[int, Field(ge=2, le=256)] = 8
    prompts: Annotated[int, Field(ge=1, le=1024)] = 8
    max_new: Annotated[int, Field(ge=1, le=4096)] = 256
    rank: Annotated[int, Field(ge=1, le=1024)] = 32


class LmOptions(Options):
    """Next-token training of blocks `span` (from, to; None: the last three) by LoRA."""

    span: tuple[int, int] | None = None
    adapter: AdapterOptions = AdapterOptions()
    epochs: Annotated[int, Field(ge=1, le=100)] = 1
    batch: Annotated[int, Field(ge=1, le=4096)] = 8
    lr: Annotated[float, Field(gt=0, le=1)] = 1e-3
    seed: Annotated[int, Field(ge=0)] = 0


class TeacherOptions(Options):
    """Training of a weak teacher: its head, the share of problems each seed sees, calibration.

    `noise` adds Gaussian noise to each row's log-odds, in units of their standard deviation on the
    rows the teacher learned from. It is drawn for each seed and row. `skim` makes a teacher that
    sees a random share of an answer's tokens without their context (`teacher.py`). With an
    `adapter` the weak model's blocks are trained as a student's are, and there is neither
    calibration nor noise.
    """

    head: HeadOptions = HeadOptions(hidden=0)
    share: Annotated[float, Field(gt=0, le=1)] = 1.0
    folds: Annotated[int, Field(ge=2, le=20)] = 5
    calibrate: bool = True
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    skim: Annotated[float, Field(gt=0, le=1)] | None = None
    adapter: AdapterOptions | None = None

    @model_validator(mode="after")
    def _plain_with_adapter(self) -> "TeacherOptions":
        if self.adapter is not None and (self.calibrate or self.noise or self.skim):
            raise ValueError("a teacher with an adapter has calibrate false, noise 0 and no skim")
        return self
