"""Where models and tasks lie and how many threads torch may use: the one reader of AARLAB_*."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import BadInput
from aarlab.core.layout import DataRoot


class TestbedSettings(BaseSettings):
    """`AARLAB_HOME` is the data root; `AARLAB_TORCH_THREADS` limits threads (unset: all cores).

    It counts batches of a model on a CPU, and heads that a build trains at a time.
    Features: `AARLAB_DEVICE`, `AARLAB_DTYPE` (auto: bfloat16 where the chip has it),
    `AARLAB_BATCH_TOKENS` (unset: by device) and `AARLAB_CACHE_GB`, above which the least recently
    used ones are dropped. Training of blocks: `AARLAB_TRAIN_TOKENS` at a time (unset: by device),
    `AARLAB_CHECKPOINT` (none, mlp, block) and `AARLAB_COMPILE`. `AARLAB_SOURCES_URL` is where the
    files of public data sets come from: it serves OWNER/NAME/COMMIT/PATH.
    """

    __test__ = False  # the name is not that of a pytest class
    model_config = SettingsConfigDict(env_prefix="AARLAB_", frozen=True, extra="ignore")

    home: Path = Path("~/.aarlab")
    torch_threads: Annotated[int, Field(ge=1, le=1024)] | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    dtype: Literal["auto", "bfloat16", "float32"] = "auto"
    batch_tokens: Annotated[int, Field(ge=16)] | None = None
    train_tokens: Annotated[int, Field(ge=16)] | None = None
    checkpoint: Literal["none", "mlp", "block"] = "none"
    compile: bool = False
    sources_url: Annotated[str, Field(pattern=r"^https?://[^/@\s]+(/[^@\s]*)?$")] = (
        "https://raw.githubusercontent.com"
    )
    cache_gb: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 50.0

    @property
    def cache_bytes(self) -> int:
        return int(self.cache_gb * 1e9)

    @property
    def root(self) -> DataRoot:
        """Return the data root with `~` filled in.

        Raises BadInput when there is no home folder to fill in.
        """
        try:
            return DataRoot(self.home.expanduser().absolute())
        except RuntimeError as error:
            raise BadInput(
                f"no home folder for {self.home}: set AARLAB_HOME to a folder ({error})"
            ) from error


def cores() -> int:
    """Return how many cores this process may use."""
    known = hasattr(os, "sched_getaffinity")  # on Linux
    return len(os.sched_getaffinity(0)) if known else os.cpu_count() or 1


def load_settings() -> TestbedSettings:
    """Read the environment once; BadInput names the variable that does not fit."""
    try:
        return TestbedSettings()
    except ValidationError as error:
        first = error.errors()[0]
        name = "AARLAB_" + str(first["loc"][0]).upper()
        raise BadInput(f"{name}={first['input']!r}: {first['msg']}") from error
