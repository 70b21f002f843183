"""Where a run keeps its data. This is the only file of this folder that reads the environment."""

from pathlib import Path
from typing import Any

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir
from aarlab.store.place import Place

PREFIX = "AARLAB_SERVER_"


class StoreSettings(BaseSettings):
    """Shared by the server and by commands that read its log. AARLAB_SERVER_* variables."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        allow_inf_nan=False,
    )

    database: SecretStr | None = Field(
        default=None, description="URL of PostgreSQL; None: an SQLite file in the run's folder"
    )
    database_file: Path | None = Field(default=None, description="a file that holds that URL")
    blobs: str | None = Field(
        default=None, description="fsspec URL (s3://bucket/prefix); None: the run's folder"
    )
    blobs_direct: bool = Field(
        default=False, description="AARs put kept blobs into the bucket themselves, by signed URLs"
    )

    def __init__(self, **given: Any) -> None:
        """Take what is given, else the variables. Raises BadInput, and never quotes a value."""
        try:
            super().__init__(**given)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            name = "_".join(str(part) for part in first["loc"]).upper()
            raise BadInput(f"{PREFIX}{name}: {first['msg']}") from None

    def place(self, run: RunDir) -> Place:
        """Return the database. Raises BadInput if the file with the URL cannot be read."""
        if self.database is not None:
            return self.database.get_secret_value()
        if self.database_file is None:
            return run.database
        try:
            return self.database_file.read_text(encoding="utf-8").strip()
        except OSError as error:
            raise BadInput(
                f"{self.database_file} cannot be read: {error.strerror}: "
                "it should hold the database's URL"
            ) from None
