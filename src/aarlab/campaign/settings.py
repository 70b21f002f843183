"""Settings for restarting crashed processes; only this module here reads the environment itself."""

from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import BadInput

Seconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


class RestartSettings(BaseSettings):
    """AARLAB_RESTART_* variables. Defaults wait 2, 8, 32, 128 and 300 s: eight minutes in all."""

    model_config = SettingsConfigDict(env_prefix="AARLAB_RESTART_", frozen=True, extra="ignore")

    first_s: Seconds = Field(default=2.0, description="wait after the first crash")
    factor: Annotated[float, Field(ge=1, le=100, allow_inf_nan=False)] = 4.0
    longest_s: Seconds = 300.0
    healthy_s: Seconds = Field(
        default=600.0, description="a process that ran so long starts counting its crashes at 0"
    )
    most_crashes: Annotated[int, Field(ge=0, le=1000)] = Field(
        default=5, description="in a row; one more, and the process is given up"
    )


def restart_settings() -> RestartSettings:
    """Read the settings from the environment; raises BadInput naming an invalid variable."""
    try:
        return RestartSettings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        name = "AARLAB_RESTART_" + str(first["loc"][0]).upper()
        raise BadInput(f"{name}={first['input']!r}: {first['msg']}") from error
