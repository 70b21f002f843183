"""Keys and addresses of the model vendors: the environment of the AAR's supervisor, no other."""

from typing import Literal

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from aarlab.core.errors import NotFound

Vendor = Literal["anthropic", "openai"]


class ProxySettings(BaseSettings):
    """The variables that the vendors' own clients read. Without its key a vendor is closed."""

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", hide_input_in_errors=True, allow_inf_nan=False
    )

    anthropic_api_key: SecretStr = SecretStr("")
    anthropic_base_url: str = "https://api.anthropic.com"
    openai_api_key: SecretStr = SecretStr("")
    openai_base_url: str = "https://api.openai.com/v1"
    answer_s: float = Field(
        default=900.0,
        gt=0,
        allow_inf_nan=False,
        validation_alias="AARLAB_PROXY_ANSWER_S",
        description="silence allowed",
    )

    def key(self, vendor: Vendor) -> str:
        """Return a vendor's key. NotFound names the variable that is missing."""
        name = f"{vendor}_api_key"
        key: str = getattr(self, name).get_secret_value()
        if not key:
            raise NotFound(f"{name.upper()} is not set where the AAR's supervisor was started")
        return key

    def base_url(self, vendor: Vendor) -> str:
        """Return a vendor's address without the /v1 that OpenAI's clients put into theirs."""
        url: str = getattr(self, f"{vendor}_base_url")
        return url.rstrip("/").removesuffix("/v1")
