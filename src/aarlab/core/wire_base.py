"""The base of all wire models."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Team = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_.-]{0,63})?$")]
Reference = Annotated[str, Field(min_length=1, max_length=64)]
MAX_TEXT = 20_000
KEY = r"^[A-Za-z0-9_.:-]{1,100}$"  # idempotency keys


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class Strict(Wire):
    """What a person writes: `true` is not the number 1."""

    @field_validator("*", mode="before")
    @classmethod
    def _true_is_no_number(cls, given: Any, info: ValidationInfo) -> Any:
        if (
            isinstance(given, bool)
            and cls.model_fields[info.field_name or ""].annotation is not bool
        ):
            raise ValueError(f"must not be {str(given).lower()}")
        return given
