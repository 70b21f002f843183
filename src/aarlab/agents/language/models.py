"""Asks the model: Inspect's providers, our own retries, bounded and visible.

Inspect would try for ever and silently, and so would a provider's client: both are told not to.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from inspect_ai.log._transcript import Transcript, init_transcript
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.tool import ToolInfo
from tenacity import RetryError

from aarlab.agents.language.spec import LanguageSpec
from aarlab.core.errors import AarlabError, BadInput

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
GIVE_UP_S = 6 * 3600.0
CALL_TIMEOUT_S = 1800
# Their clients try again by themselves, unseen, unless told otherwise.
OWN_RETRIES = ("anthropic", "openai", "together", "openrouter", "fireworks", "deepseek")
SECRET_ENDS = ("key", "token", "secret", "password")
REJECTED = (400, 413, 422)
ODD_TRIES = 5
Choice = Literal["auto", "none"]


class ModelUnavailable(AarlabError):
    """The model cannot be asked: wrong key, unknown model, or no answer for hours. Nothing of the
    AAR is lost: set it right and resume."""

    code = "model_unavailable"


class ConversationRejected(AarlabError):
    """The provider refuses this conversation as malformed or too long; asking again is no use."""

    code = "conversation_rejected"


class Interrupted(AarlabError):
    """The operator stopped the AAR while it waited for the model."""

    code = "interrupted"


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on; tests make it short."""

    first_wait_s: float = FIRST_WAIT_S
    longest_wait_s: float = LONGEST_WAIT_S
    give_up_s: float = GIVE_UP_S


@dataclass
class Asker:
    """One model. `on_failure` hears of each try that failed, and of the wait before the next;
    `wait` sleeps and raises Interrupted when the AAR is to stop."""

    model: Model
    spec: LanguageSpec
    on_failure: Callable[[str], None] = lambda _text: None
    wait: Callable[[float], None] = time.sleep
    patience: Patience = field(default_factory=Patience)
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def close(self) -> None:
        """Ends the client's connections, which live in the runner's event loop."""
        try:
            self._runner.run(self.model.api.aclose())
        finally:
            self._runner.close()

    @property
    def secrets(self) -> list[str | None]:
        return [getattr(self.model.api, "api_key", None)]

    def ask(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[ToolInfo],
        choice: Choice = "auto",
    ) -> ModelOutput:
        """One answer. Raises ModelUnavailable, ConversationRejected or Interrupted."""
        give_up = time.monotonic() + self.patience.give_up_s
        wait_s, tries, odd = self.patience.first_wait_s, 0, 0
        while True:
            tries += 1
            try:
                return self._runner.run(self._generate(list(messages), list(tools), choice))
            except Exception as error:  # noqa: BLE001 - providers raise anything; sorted below
                failure = root_of(error)
            odd += not isinstance(getattr(failure, "status_code", None), int)
            pause_s = self._pause_s(failure, wait_s, odd)
            what = f"{type(failure).__name__}: {str(failure)[:1000]}"
            if time.monotonic() + pause_s > give_up:
                raise ModelUnavailable(f"{self.model} did not answer in {tries} tries: {what}")
            self.on_failure(f"model call failed (try {tries}), again in {pause_s:.1f} s: {what}")
            self.wait(pause_s)
            wait_s = min(wait_s * 2, self.patience.longest_wait_s)

    async def _generate(
        self, messages: list[ChatMessage], tools: list[ToolInfo], choice: Choice
    ) -> ModelOutput:
        # Inspect keeps an event of each call, with all its messages, as long as the process lives.
        init_transcript(Transcript())
        return await self.model.generate(messages, tools=tools, tool_choice=choice)

    def _pause_s(self, failure: BaseException, wait_s: float, odd: int) -> float:
        """Seconds until the next try; raises where there is to be none. `odd` counts failures
        without a status: a garbled answer, or a client that stumbles over one."""
        status = getattr(failure, "status_code", None)
        decision: Any = self.model.should_retry(failure)
        asked = getattr(self.model.api, "should_retry", lambda _error: None)(failure)
        if decision or (status is None and odd <= ODD_TRIES):
            advised = getattr(asked, "retry_after", None) or 0.0
            longest = max(self.patience.longest_wait_s, wait_s)
            return min(max(wait_s * random.uniform(0.75, 1.0), float(advised)), longest)
        what = f"{self.model}: {type(failure).__name__}: {str(failure)[:1000]}"
        if status in REJECTED:
            raise ConversationRejected(what) from failure
        raise ModelUnavailable(f"{what}; set it right and resume the campaign") from failure


def root_of(error: BaseException) -> BaseException:
    """What a retry wrapper of the library stands for."""
    if isinstance(error, RetryError):
        return error.last_attempt.exception() or error
    return error


def open_model(spec: LanguageSpec) -> Model:
    """The provider's client; keys come from the environment variables of Inspect's providers.

    Raises BadInput for an unknown provider and ModelUnavailable without a key.
    """
    args = dict(spec.model_args)
    if named := [name for name in args if name.endswith(SECRET_ENDS)]:
        raise BadInput(
            f"model_args hold {', '.join(named)}: a spec is published with its campaign; keys come "
            "from the environment variables of Inspect's providers"
        )
    provider = spec.model.split("/", 1)[0]
    if provider in OWN_RETRIES:
        args.setdefault("max_retries", 0)
    try:
        return get_model(
            spec.model,
            config=generate_config(spec),
            base_url=spec.base_url,
            memoize=False,
            **args,
        )
    except ValueError as error:
        raise BadInput(f"model {spec.model!r}: {error}") from error
    except Exception as error:
        if type(error).__name__ == "PrerequisiteError":
            raise ModelUnavailable(f"model {spec.model!r}: {error}") from error
        raise


def generate_config(spec: LanguageSpec) -> GenerateConfig:
    return GenerateConfig(
        max_retries=0,
        attempt_timeout=CALL_TIMEOUT_S,
        max_tokens=spec.max_output_tokens,
        temperature=spec.temperature,
        reasoning_effort=spec.reasoning_effort,
        # Left open, OpenAI's provider tries it out with a paid call that is on nobody's books.
        reasoning_summary="none" if spec.model.startswith("openai/") else None,
        max_connections=1,
    )
