"""`task.yaml`: every setting of a build in one file next to the rows.

This module loads neither numpy nor torch.

    title: Safe statements of an AI       # shown to researchers
    pair: embedded                        # of `aarlab models list`
    teacher: {layer: 3, noise: 1.5, share: 0.5}
    student: {layer: 15, more_layers: [0, 12]}
    seeds: {public_teachers: 8, fresh_teachers: 8}
    splits: {seed: 0, search: 0.4, selection: 0.4, certify: 0.2}
    log_likelihoods: sample

Every key may be left out. `docs/data.md` lists them all with their meaning.
"""

import difflib
import json
from collections.abc import Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from aarlab.core.errors import BadInput
from aarlab.core.foreign_yaml import read_yaml
from aarlab.testbed.students.adapters.adaptation import ADAPTATIONS, PROBE
from aarlab.testbed.students.options import (
    ADAPTED_CEILINGS,
    HeadOptions,
    StudentOptions,
    TeacherOptions,
    model_of,
)
from aarlab.testbed.tasks.options import BuildOptions, Count, LogLikelihoods

FILE = "task.yaml"
Layer = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class TeacherSettings(_Section):
    """The weak teacher. `layer` is a number of blocks of the weak model; None: the pair's.

    `folds` None is five, or as many as the problems that a teacher sees allow. With `skim` the
    teacher sees that share of an answer's tokens without their context, and `layer` is not used.
    """

    layer: Layer | None = None
    head: HeadOptions = TeacherOptions().head
    share: Share = 1.0
    folds: Annotated[int, Field(ge=2, le=20)] | None = None
    calibrate: bool = True
    noise: Annotated[float, Field(ge=0, le=10)] = 0.0
    skim: Share | None = None


class StudentSettings(_Section):
    """The strong student. `layer` is a number of blocks of the strong model; None: the pair's.

    States of `more_layers` are stored too. With another `adaptation` than "probe", such as
    "top_blocks", students train blocks of the model; `head` None is that adaptation's default.
    """

    layer: Layer | None = None
    more_layers: tuple[Layer, ...] | None = None
    head: HeadOptions | None = None
    adaptation: str = PROBE

    @field_validator("adaptation")
    @classmethod
    def _known(cls, adaptation: str) -> str:
        if adaptation != PROBE and adaptation not in ADAPTATIONS:
            raise ValueError(ADAPTATIONS.unknown(adaptation))
        return adaptation


class SeedSettings(_Section):
    """How many of each are trained. `weak_teachers` counts all, public and fresh ones included."""

    public_teachers: Count = 8
    fresh_teachers: Count = 8
    weak_teachers: Count = 16
    ceilings: Count | None = None
    plain_students: Count = 16


class SplitSettings(_Section):
    """How the test file is dealt to search, selection and certify; shares need not sum to 1.

    `seed` "private" is drawn once for each data root and kept closed. Use it where the labels are
    public.
    """

    seed: Annotated[int, Field(ge=0)] | Literal["private"] = 0
    search: Share = 0.4
    selection: Share = 0.4
    certify: Share = 0.2


class TaskSettings(_Section):
    """Everything that `task.yaml` may say; see the module's docstring for an example."""

    title: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(min_length=1, max_length=2000)] | None = None
    pair: str = "embedded"
    teacher: TeacherSettings = TeacherSettings()
    student: StudentSettings = StudentSettings()
    seeds: SeedSettings = SeedSettings()
    splits: SplitSettings = SplitSettings()
    train_hidden: bool = True
    log_likelihoods: LogLikelihoods = "all"
    log_likelihood_rows: Annotated[int, Field(ge=10, le=100_000)] = 200
    certify: bool = True
    with_model: bool = False
    restyled_rows: Annotated[int, Field(ge=0, le=10_000)] = 100
    near_duplicates: Literal["drop", "refuse", "keep"] = "drop"
    repeated_questions: Literal["refuse", "drop"] = "refuse"
    require_gap: bool = False

    def teacher_options(self, folds: int) -> TeacherOptions:
        """Return the options of a weak teacher that calibrates on `folds` folds."""
        chosen = self.teacher
        return TeacherOptions(
            head=chosen.head,
            share=chosen.share,
            folds=folds,
            calibrate=chosen.calibrate,
            noise=chosen.noise,
            skim=chosen.skim,
        )

    def build_options(
        self, layers: tuple[int, int, tuple[int, ...]], model: str | None, folds: int, seed: int
    ) -> BuildOptions:
        """Return the build's options.

        `layers` are the teacher's, the student's and more of the student's, with the pair's
        defaults filled in. `model` names the strong model where methods get it.
        """
        weak_layer, strong_layer, more_layers = layers
        head, extra = self.student.head or HeadOptions(), dict[str, Any]()
        if self.student.adaptation != PROBE:
            adapter, default = ADAPTATIONS.get(self.student.adaptation).defaults()
            head, extra = self.student.head or default, {"adapter": adapter}
            extra["ceiling_seeds"] = ADAPTED_CEILINGS
        if self.seeds.ceilings is not None:
            extra["ceiling_seeds"] = self.seeds.ceilings
        return BuildOptions(
            pair=self.pair,
            weak_layer=weak_layer,
            strong_layer=strong_layer,
            more_layers=more_layers,
            teacher=self.teacher_options(folds),
            student=head,
            model=model if self.with_model else None,
            log_likelihoods=self.log_likelihoods,
            log_likelihood_rows=self.log_likelihood_rows,
            n_public=self.seeds.public_teachers,
            n_fresh=self.seeds.fresh_teachers,
            n_weak=self.seeds.weak_teachers,
            plain_seeds=self.seeds.plain_students,
            seed=seed,
            certify=self.certify,
            teacher_row_ceiling=False,
            require_gap=self.require_gap,
            twins=self.restyled_rows,
            **extra,
        )


def settings_file(folder: Path) -> Path:
    """Return what an error about a folder's settings names: its `task.yaml`, else the folder."""
    return folder / FILE if (folder / FILE).exists() else folder


def read_task_settings(folder: Path, changes: Sequence[str] = ()) -> TaskSettings:
    """Read a folder's `task.yaml`, or the defaults where there is none, and apply changes.

    A change is `KEY=VALUE`, such as `teacher.noise=1.5`; the value is YAML. Raises BadInput that
    names the file, each wrong key with the nearest right one, and each wrong value.
    """
    path, value = folder / FILE, {}
    if path.exists():
        value = read_yaml(path.read_bytes(), str(path))
        value = {} if value is None else value
        if not isinstance(value, dict):
            raise BadInput(f"{path}: expected keys and values, such as `pair: embedded`")
    where = str(path)
    for change in changes:
        key, sign, text = change.partition("=")
        if not sign or not key.strip():
            raise BadInput(f"--set {change!r}: expected KEY=VALUE, such as teacher.noise=1.5")
        _put(value, key.strip().split("."), read_yaml(text.encode(), f"--set {key}"), change)
        where = f"{path if path.exists() else 'settings'} with --set"
    return task_settings(value, where)


def task_settings(value: dict[str, Any], where: str) -> TaskSettings:
    """Return the settings that a mapping stands for; raises BadInput that begins with `where`."""
    try:
        text = json.dumps(value)
    except (TypeError, ValueError) as error:
        raise BadInput(f"{where}: {error}; quote dates and other texts") from None
    unknown = _unknown(TaskSettings, value, "")
    if unknown:
        raise BadInput(f"{where}: " + "; ".join(unknown))
    try:
        return TaskSettings.model_validate_json(text)
    except BadInput as error:  # of a head
        raise BadInput(f"{where}: {error}") from error
    except ValidationError as error:
        lines = []
        for item in error.errors(include_url=False):
            key = ".".join(str(part) for part in _words(item["loc"]))
            lines.append(f"{key or 'value'}: {item['msg']} (got {item['input']!r})")
        raise BadInput(f"{where}: " + "; ".join(dict.fromkeys(lines))) from error


def _words(loc: tuple[Any, ...]) -> list[Any]:
    """Return the parts of a place that are keys or numbers, not names of a union's members."""
    return [part for part in loc if isinstance(part, int) or ("[" not in part and part != "int")]


def _put(value: dict[str, Any], keys: list[str], new: Any, change: str) -> None:
    for key in keys[:-1]:
        inner = value.setdefault(key, {})
        if not isinstance(inner, dict):
            raise BadInput(f"--set {change}: {key} is a value and has no keys of its own")
        value = inner
    value[keys[-1]] = new


def _unknown(model: type[BaseModel], value: Any, place: str) -> list[str]:
    """Name each key that the model does not have, with the nearest one that it has."""
    if not isinstance(value, dict):
        return []
    found = []
    for key, inner in value.items():
        known = list(model.model_fields)
        if key not in model.model_fields:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(known)}"
            found.append(f"unknown key {place}{key}: {hint}")
        elif (of := _model(model.model_fields[key].annotation)) is not None:
            found += _unknown(of, inner, f"{place}{key}.")
    return found


def _model(annotation: Any) -> type[BaseModel] | None:
    """Return the model that a field holds, also where it may be None; None for a plain value."""
    if get_origin(annotation) in (Union, UnionType):
        (annotation, *others) = [a for a in get_args(annotation) if a is not NoneType]
        if others:
            return None
    if isinstance(annotation, type) and issubclass(annotation, StudentOptions):
        return model_of(annotation)
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return None
