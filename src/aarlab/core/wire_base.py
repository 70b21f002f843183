"""What all wire models are made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9_.-]{0,63}$")]
Team = Annotated[str, Field(pattern=r"^([a-z0-9][a-z0-9_.-]{0,63})?$")]
Reference = Annotated[str, Field(min_length=1, max_length=64)]
MAX_TEXT = 20_000


class Wire(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)
