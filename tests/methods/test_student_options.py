"""Options of training: what they accept, in any form, and what a verified run loads for them."""

import json
import subprocess
import sys
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from aarlab.core.errors import BadInput
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    GrpoOptions,
    HeadOptions,
    LmOptions,
    StudentOptions,
    TeacherOptions,
)

MADE = [
    HeadOptions(hidden=0, loss="window", radius=0.2),
    AdapterOptions(kind="lora", alpha=8),
    GenerateOptions(stop=("a", "b")),
    GrpoOptions(steps=3),
    LmOptions(span=(2, 5), adapter=AdapterOptions(rank=1)),
    TeacherOptions(head=HeadOptions(lr=0.5), skim=0.3),
]
LOADED = """
import sys
import aarlab.verify.inside
from aarlab.testbed.students.options import HeadOptions
print(HeadOptions.given({"epochs": 3}).model_copy(update={"seed": 7}))
print(sorted({"pydantic", "importlib.metadata"} & sys.modules.keys()))
"""


@pytest.mark.parametrize("made", MADE, ids=lambda made: type(made).__name__)
def test_options_are_the_same_after_json(made: StudentOptions) -> None:
    kind: type[StudentOptions] = type(made)
    again = TypeAdapter(kind).validate_json(json.dumps(made.model_dump(mode="json")))
    assert again == made and hash(again) == hash(made) and type(again) is kind
    assert kind(**made.model_dump(mode="python")) == made
    assert kind.given(made.__dict__) == made == made.model_copy()


@pytest.mark.parametrize(
    ("kind", "values", "said"),
    [
        (HeadOptions, {"hidden": -1}, r"head.hidden: .*greater than or equal to 0 \(got -1\)"),
        (HeadOptions, {"epochs": 2.0}, "head.epochs: .*valid integer"),
        (HeadOptions, {"lr": float("nan")}, "head.lr: .*finite"),
        (HeadOptions, {"epoch": 3}, "head.epoch: Extra inputs"),
        (AdapterOptions, {"kind": "lorra"}, "adapter.kind: .*no adaptation 'lorra'; there are"),
        (LmOptions, {"adapter": 3}, "lm.adapter: "),
        (
            TeacherOptions,
            {"head": {"batch": 1}},
            "teacher.head.batch: .*or equal to 2",
        ),
        (TeacherOptions, {"skim": 0.0}, "teacher.skim: .*greater than 0"),
        (TeacherOptions, {"adapter": AdapterOptions()}, "has calibrate false"),
    ],
)
def test_a_wrong_value_is_named(
    kind: type[StudentOptions], values: dict[str, Any], said: str
) -> None:
    with pytest.raises(BadInput, match=said):
        kind(**values)


def test_a_copy_takes_no_unknown_name() -> None:
    with pytest.raises(BadInput, match="HeadOptions has no epoch"):
        HeadOptions().model_copy(update={"epoch": 3})
    with pytest.raises(AttributeError):
        HeadOptions().epochs = 3  # type: ignore[misc]  # frozen


class Outer(BaseModel):
    head: HeadOptions = HeadOptions()


def test_a_model_may_hold_options() -> None:
    assert Outer.model_validate({"head": {"lr": 1}}).head == HeadOptions(lr=1.0)
    assert Outer(head=HeadOptions(lr=0.2)).model_dump()["head"]["lr"] == 0.2
    with pytest.raises(ValidationError, match=r"head\.lr\n.*less than or equal to 1"):
        Outer.model_validate({"head": {"lr": 2.0}})


def test_a_verified_run_starts_without_what_it_does_not_need() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOADED], capture_output=True, encoding="utf-8", check=True
    )
    made, loaded = done.stdout.splitlines()
    assert made == repr(HeadOptions(epochs=3, seed=7))
    assert loaded == "[]", "each seed of each verified run would wait for it"
