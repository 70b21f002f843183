"""Settings of the verifier. The only file of this folder that reads the environment."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ReviewSettings(BaseSettings):
    """A model that reads snapshots: AARLAB_REVIEW_URL, _MODEL, _KEY, _FORMAT. No URL: no review.

    The URL is that of the endpoint up to and with /v1; `format` says whose messages it speaks.
    """

    model_config = SettingsConfigDict(env_prefix="AARLAB_REVIEW_", frozen=True, extra="ignore")

    url: str | None = None
    model: str = ""
    key: SecretStr = SecretStr("")
    format: Literal["openai", "anthropic"] = "openai"
    timeout_s: float = Field(default=120.0, gt=0)
