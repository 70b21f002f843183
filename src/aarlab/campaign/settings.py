"""Settings for restarting crashed processes and for a webhook.

Only this module here reads the environment itself.
"""

import stat
from pathlib import Path
from typing import Annotated

from pydantic import Field, SecretStr, ValidationError
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


class PodSettings(BaseSettings):
    """AARLAB_POD_* variables, for pods whose machines share no folder (`state: kept`).

    `secret` is the same where the campaign runs and on its nodes: with it the keys of pods are
    sealed, which travel on command lines. `folder` is where a pod has its files on its node; the
    default is in /tmp.
    """

    model_config = SettingsConfigDict(env_prefix="AARLAB_POD_", frozen=True, extra="ignore")

    secret: SecretStr = SecretStr("")
    folder: Path | None = None


class WebhookSettings(BaseSettings):
    """AARLAB_NOTIFY_* variables: what a webhook needs and a spec must not hold.

    `url` replaces `notify.url` of the spec. `secret` signs the requests; `token` is sent as a
    bearer token. AARLAB_NOTIFY_FILE names a file with the same variables, one NAME=VALUE per line;
    variables of the environment come before those of the file.
    """

    model_config = SettingsConfigDict(env_prefix="AARLAB_NOTIFY_", frozen=True, extra="ignore")

    url: SecretStr = SecretStr("")
    secret: SecretStr = SecretStr("")
    token: SecretStr = SecretStr("")
    file: Path | None = None


def webhook_settings() -> WebhookSettings:
    """Read the settings, also those of the file that AARLAB_NOTIFY_FILE names.

    Raises BadInput if the file cannot be read or others may read it, and never quotes a value.
    """
    try:
        known = WebhookSettings()
        if known.file is None:
            return known
        mode = known.file.stat().st_mode
        if not stat.S_ISREG(mode) or stat.S_IMODE(mode) & 0o077:
            raise BadInput(
                f"AARLAB_NOTIFY_FILE: {known.file} must be a file that only you may read: "
                f"chmod 600 {known.file}"
            )

        class OfFile(WebhookSettings):
            model_config = SettingsConfigDict(env_file=known.file, env_file_encoding="utf-8")

        return OfFile()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not of the form NAME=VALUE"
        raise BadInput(f"AARLAB_NOTIFY_FILE cannot be read: {why}") from None
