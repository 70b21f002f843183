"""Settings of the verifier. The only file of this folder that reads the environment."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.agents.prices import Dollars


class ReviewSettings(BaseSettings):
    """A model that reads snapshots: AARLAB_REVIEW_URL, _MODEL, _KEY, _FORMAT. No URL: no review.

    The URL is that of the endpoint up to and with /v1; `format` says whose messages it speaks.
    AARLAB_REVIEW_PRICE, as `[3.0, 15.0]`, is dollars per million tokens in and out, for a model
    that no price table knows.
    """

    model_config = SettingsConfigDict(
        env_prefix="AARLAB_REVIEW_", frozen=True, extra="ignore", allow_inf_nan=False
    )

    url: str | None = None
    model: str = ""
    key: SecretStr = SecretStr("")
    format: Literal["openai", "anthropic"] = "openai"
    timeout_s: float = Field(default=120.0, gt=0, allow_inf_nan=False)
    price: tuple[Dollars, Dollars] | None = None
