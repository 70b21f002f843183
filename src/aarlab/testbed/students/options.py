"""Options of training: frozen, strict, JSON round-trip. Imports neither torch nor numpy.

They are dataclasses whose values pydantic checks when one is made. A verified run makes none. It is
given some and changes them, once for each seed, and need not load pydantic for that.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self, dataclass_transform, get_type_hints

from aarlab.core.errors import BadInput

if TYPE_CHECKING:
    from pydantic import BaseModel, GetCoreSchemaHandler
    from pydantic_core import CoreSchema

    from aarlab.core.registry import Registry
    from aarlab.testbed.students.adapters.adaptation import Adaptation

LossName = Literal[
    "ce", "aux_confidence", "entropy", "product", "window", "reverse_kl", "reverse_ce"
]


def within(*, default: Any, known: Callable[[Any], Any] | None = None, **limits: float) -> Any:
    """Return the field of an option with limits: ge, gt, le, lt.

    `known` returns a value as it is, or raises ValueError.
    """
    return dataclasses.field(default=default, metadata={"known": known, "limits": limits})


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(within,))
class StudentOptions:
    """Base of options: an unknown name or a value out of range raises BadInput naming it.

    A subclass is made a frozen dataclass.
    """

    def __init_subclass__(cls) -> None:
        dataclasses.dataclass(frozen=True, kw_only=True, init=False)(cls)

    def __init__(self, **values: Any) -> None:
        from pydantic import ValidationError

        from aarlab.core.options import explain

        try:
            self.__dict__.update(model_of(type(self))(**values).__dict__)
        except ValidationError as error:
            what = type(self).__name__.removesuffix("Options").lower()
            raise BadInput(explain(what, error)) from error

    @classmethod
    def given(cls, values: Mapping[str, Any]) -> Self:
        """Return options from values that have been checked before. Others are at their default."""
        fields = dataclasses.fields(cls)  # type: ignore[arg-type]  # each subclass is one
        made = cls.__new__(cls)
        made.__dict__.update({field.name: field.default for field in fields})
        return made.model_copy(update=values)

    def model_copy(self, *, update: Mapping[str, Any] | None = None) -> Self:
        """Return a copy with other values. Names are checked; values are not."""
        if unknown := (update or {}).keys() - self.__dict__.keys():
            raise BadInput(f"{type(self).__name__} has no {min(unknown)}")
        copy = type(self).__new__(type(self))
        copy.__dict__.update(self.__dict__ | dict(update or {}))
        return copy

    def model_dump(self, **how: Any) -> dict[str, Any]:
        """Return values by name; `how` is that of pydantic's function of this name."""
        return model_of(type(self)).model_construct(**self.__dict__).model_dump(**how)

    def check(self) -> None:
        """Raise ValueError where values that are right alone are wrong together."""

    @classmethod
    def __get_pydantic_core_schema__(
        cls, source: type[Self], handler: "GetCoreSchemaHandler"
    ) -> "CoreSchema":
        from pydantic_core import core_schema

        model = model_of(cls)
        fields = handler.generate_schema(model)

        def made(values: "BaseModel") -> StudentOptions:
            return cls.given(values.__dict__)

        def as_they_are(value: Any, check: Any) -> StudentOptions:
            return value if isinstance(value, cls) else made(check(value))

        def dumped(value: StudentOptions, dump: Any) -> Any:
            return dump(model.model_construct(**value.__dict__))

        return core_schema.json_or_python_schema(
            core_schema.no_info_after_validator_function(made, fields),
            core_schema.no_info_wrap_validator_function(as_they_are, fields),
            serialization=core_schema.wrap_serializer_function_ser_schema(dumped, schema=fields),
        )


_MODELS: dict[type[StudentOptions], "type[BaseModel]"] = {}


def model_of(kind: type[StudentOptions]) -> "type[BaseModel]":
    """Return the pydantic model that checks options of a kind."""
    if kind in _MODELS:
        return _MODELS[kind]
    from pydantic import AfterValidator, Field, create_model, model_validator

    from aarlab.core.options import STRICT

    hints, fields = get_type_hints(kind), dict[str, Any]()
    for field in dataclasses.fields(kind):  # type: ignore[arg-type]  # each subclass is one
        hint, known = hints[field.name], field.metadata.get("known")
        if known is not None:
            hint = Annotated[hint, AfterValidator(known)]
        fields[field.name] = (hint, Field(field.default, **field.metadata.get("limits", {})))

    def check(values: "BaseModel") -> "BaseModel":
        kind.given(values.__dict__).check()
        return values

    together: dict[str, Any] = {"check": model_validator(mode="after")(check)}
    made = create_model(
        kind.__name__, __config__=STRICT, __doc__=kind.__doc__, __validators__=together, **fields
    )
    return _MODELS.setdefault(kind, made)


def _adaptations() -> "Registry[Adaptation]":
    from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS  # reads installed packages

    return ADAPTATIONS


def _known_adaptation(kind: str) -> str:
    if kind not in _adaptations():
        raise ValueError(_adaptations().unknown(kind))
    return kind


class HeadOptions(StudentOptions):
    """Training of one head. `hidden` 0 is a linear head; the learning rate falls linearly to 0."""

    hidden: int = within(default=64, ge=0, le=4096)
    epochs: int = within(default=10, ge=1, le=200)
    lr: float = within(default=3e-3, gt=0, le=1)
    weight_decay: float = within(default=0.1, ge=0, le=100)
    batch: int = within(default=32, ge=2, le=4096)
    loss: LossName = "ce"
    smoothing: float = within(default=0.0, ge=0, lt=1)
    a_max: float = within(default=0.5, ge=0, le=1)
    alpha: float = within(default=1.0, ge=0, le=4)
    beta: float = within(default=1.0, ge=0, le=4)
    radius: float = within(default=0.15, gt=0, le=0.5)
    seed: int = within(default=0, ge=0)


class AdapterOptions(StudentOptions):
    """Training of the strong model itself, below a linear head on its mean answer state.

    `kind` is the name of an adaptation (`adapters/adaptation.py`). top_blocks: LoRA on the upper
    `blocks` blocks over lower states that are computed once; lora: on every block; full: all
    weights of every block. LoRA has rank `rank` and scale alpha / rank on all matrices of a block.
    Learning rate and epochs are those of `HeadOptions`. With readout
    "labels" there is no head: the row is put as a question, and the log-odds of the two label
    tokens that may follow are the prediction.
    """

    kind: str = within(default="top_blocks", known=_known_adaptation)
    blocks: int = within(default=3, ge=1, le=128)
    rank: int = within(default=8, ge=1, le=1024)
    alpha: float = within(default=16.0, gt=0, le=4096)
    readout: Literal["mean", "labels"] = "mean"

    def lowest(self, layer: int) -> int:
        """Return the number of blocks below a student's layer that never change."""
        return _adaptations().get(self.kind).lowest(self, layer)


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


class GenerateOptions(StudentOptions):
    """Writing text: at most `max_new` tokens, up to the first stop string.

    Temperature 0 is greedy.
    """

    max_new: int = within(default=64, ge=1, le=4096)
    temperature: float = within(default=0.0, ge=0, le=10)
    stop: tuple[str, ...] = ()
    batch: int = within(default=16, ge=1, le=1024)
    seed: int = within(default=0, ge=0)


class GrpoOptions(StudentOptions):
    """Policy gradients by groups (GRPO) through trl; defaults are the study's."""

    steps: int = within(default=50, ge=1, le=10_000)
    lr: float = within(default=1e-5, gt=0, le=1)
    kl: float = within(default=0.02, ge=0, le=10)
    generations: int = within(default=8, ge=2, le=256)
    prompts: int = within(default=8, ge=1, le=1024)
    max_new: int = within(default=256, ge=1, le=4096)
    rank: int = within(default=32, ge=1, le=1024)


class LmOptions(StudentOptions):
    """Next-token training of blocks `span` (from, to; None: the last three) by LoRA."""

    span: tuple[int, int] | None = None
    adapter: AdapterOptions = AdapterOptions.given({})
    epochs: int = within(default=1, ge=1, le=100)
    batch: int = within(default=8, ge=1, le=4096)
    lr: float = within(default=1e-3, gt=0, le=1)
    seed: int = within(default=0, ge=0)


class TeacherOptions(StudentOptions):
    """Training of a weak teacher: its head, the share of problems each seed sees, calibration.

    `noise` adds Gaussian noise to each row's log-odds, in units of their standard deviation on the
    rows the teacher learned from. It is drawn for each seed and row. `skim` makes a teacher that
    sees a random share of an answer's tokens without their context (`teacher.py`). With an
    `adapter` the weak model's blocks are trained as a student's are, and there is neither
    calibration nor noise.
    """

    head: HeadOptions = HeadOptions.given({"hidden": 0})
    share: float = within(default=1.0, gt=0, le=1)
    folds: int = within(default=5, ge=2, le=20)
    calibrate: bool = True
    noise: float = within(default=0.0, ge=0, le=10)
    skim: float | None = within(default=None, gt=0, le=1)
    adapter: AdapterOptions | None = None

    def check(self) -> None:
        if self.adapter is not None and (self.calibrate or self.noise or self.skim):
            raise ValueError("a teacher with an adapter has calibrate false, noise 0 and no skim")
