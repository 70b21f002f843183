"""Where models and tasks lie and how many threads torch may use: the one reader of AARLAB_*."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot


class TestbedSettings(BaseSettings):
    """`AARLAB_HOME` is the data root; `AARLAB_TORCH_THREADS` limits torch (unset: all cores)."""

    __test__ = False  # the name is no pytest class
    model_config = SettingsConfigDict(env_prefix="AARLAB_", frozen=True, extra="ignore")

    home: Path = Path("~/.aarlab")
    torch_threads: Annotated[int, Field(ge=1, le=1024)] | None = None

    @property
    def root(self) -> DataRoot:
        """The data root with `~` filled in; BadInput when there is no home folder to fill in."""
        try:
            return DataRoot(self.home.expanduser().absolute())
        except RuntimeError as error:
            raise BadInput(
                f"no home folder for {self.home}: set AARLAB_HOME to a folder ({error})"
            ) from error


def load_settings() -> TestbedSettings:
    """Read the environment once; BadInput names the variable that does not fit."""
    try:
        return TestbedSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "AARLAB_" + str(first["loc"][0]).upper()
        raise BadInput(f"{name}={first['input']!r}: {first['msg']}") from error
