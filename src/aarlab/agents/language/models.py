"""Calls of the model: Inspect's providers, with our own retries, bounded and visible.

Inspect would retry for ever and silently, and so would a provider's client: both are set not to.
"""

import asyncio
import random
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, Protocol

from inspect_ai.log._transcript import Transcript, init_transcript
from inspect_ai.model import ChatMessage, GenerateConfig, Model, ModelOutput, get_model
from inspect_ai.tool import ToolInfo

from aarlab.agents.language.redaction import cleaner
from aarlab.agents.refusals import Refusal, cause_of, refusal_in, refusal_of
from aarlab.agents.specs import LanguageSpec
from aarlab.core.errors import AarlabError, BadInput
from aarlab.core.wire_ledger import WaitKind

FIRST_WAIT_S, LONGEST_WAIT_S = 2.0, 300.0
GIVE_UP_S = 6 * 3600.0
CALL_TIMEOUT_S = 1800
# Their clients try again by themselves, unseen, unless set otherwise.
OWN_RETRIES = ("anthropic", "openai", "together", "openrouter", "fireworks", "deepseek")
SECRET_ENDS = ("key", "token", "secret", "password")
ODD_TRIES = 5
Choice = Literal["auto", "none"]


class ModelUnavailable(AarlabError):
    """The model cannot be called: it is unknown, or it did not answer for hours.

    The AAR's work is kept. Fix the cause and resume.
    """

    code = "model_unavailable"


class SettingsRefused(ModelUnavailable):
    """The provider refuses the model, a parameter or the key.

    The same process would be refused again. The message contains the provider's own words.
    """

    code = "model_settings"


class ConversationRejected(AarlabError):
    """The provider refuses the content of this conversation. Asking again does not help."""

    code = "conversation_rejected"


class ContextExceeded(AarlabError):
    """The conversation is longer than the model or the account accepts in one call."""

    code = "context_exceeded"

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class Interrupted(AarlabError):
    """The operator stopped the AAR while it waited for the model."""

    code = "interrupted"


@dataclass(frozen=True, slots=True)
class Patience:
    """The waiting times between tries, in seconds.

    The call fails when a provider stays overloaded for `give_up_s`. An account without credit is
    waited for without limit, and the operator sees an alert. Tests use short times.
    """

    first_wait_s: float = FIRST_WAIT_S
    longest_wait_s: float = LONGEST_WAIT_S
    give_up_s: float = GIVE_UP_S
    account_first_s: float = 60.0
    account_longest_s: float = 1800.0


class Waits(Protocol):
    """Receives the begin and end of waiting for the provider, which is not counted as research.

    `ago_s` is how many seconds ago that was. A try that failed counts as waiting from its start.
    """

    def begin(self, kind: WaitKind, note: str, ago_s: float) -> None: ...

    def end(self, ago_s: float = 0.0) -> None: ...


class _Unheard:
    """Waits that are not counted."""

    def begin(self, kind: WaitKind, note: str, ago_s: float) -> None:
        pass

    def end(self, ago_s: float = 0.0) -> None:
        pass


@dataclass
class Asker:
    """Calls one model and retries failed calls.

    `on_failure` receives a message for each failed try, with the wait before the next. `wait`
    sleeps, and raises Interrupted when the AAR has to stop. `again` is called before each further
    try. `accepted` says that the provider has answered this AAR before, maybe in another process.
    """

    model: Model
    spec: LanguageSpec
    on_failure: Callable[[str], None] = lambda _text: None
    wait: Callable[[float], None] = time.sleep
    patience: Patience = field(default_factory=Patience)
    waits: Waits = field(default_factory=_Unheard)
    again: Callable[[], None] = lambda: None
    accepted: bool = False
    _runner: asyncio.Runner = field(default_factory=asyncio.Runner)

    def __post_init__(self) -> None:
        self._clean = cleaner(self.secrets)

    def close(self) -> None:
        """End the client's connections, which live in the runner's event loop."""
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
        """Return the model's answer, waiting without limit while the account is empty.

        Raises SettingsRefused, ConversationRejected, ContextExceeded or Interrupted. Raises
        ModelUnavailable where an overloaded provider does not answer for hours, or where more than
        ODD_TRIES tries fail for no known reason.
        """
        tries = _Tries(self.patience)
        waiting = False
        try:
            while True:
                began = time.monotonic()
                output, refusal, failure = self._tried(messages, tools, choice)
                took_s = time.monotonic() - began
                if output is not None:
                    self.accepted = True
                    if waiting:
                        waiting = False
                        self.waits.end(took_s)
                    return output
                assert refusal is not None
                kind = self._kind_of_wait(refusal, failure, tries)
                if tries.kind != kind:
                    tries.begin(kind)
                    self.waits.begin(kind, f"{self.model}: {refusal}", took_s)
                    waiting = True
                    if kind == "account":
                        self.on_failure(f"alert: {self.model} waits for its account: {refusal}")
                pause_s = tries.pause_s(self._advised_s(failure))
                if kind == "overload" and tries.given_up(pause_s):
                    raise ModelUnavailable(
                        f"{self.model} did not answer in {tries.number} tries: {refusal}"
                    )
                self.on_failure(
                    f"model call failed (try {tries.number}), again in {pause_s:.1f} s: {refusal}"
                )
                self.wait(pause_s)
                self.again()
        finally:
            if waiting:
                self.waits.end()

    def _tried(
        self, messages: Sequence[ChatMessage], tools: Sequence[ToolInfo], choice: Choice
    ) -> tuple[ModelOutput | None, Refusal | None, BaseException | None]:
        try:
            output = self._runner.run(self._generate(list(messages), list(tools), choice))
        except Exception as error:  # noqa: BLE001 - providers raise anything; sorted here
            return None, refusal_of(error, self._clean), cause_of(error)
        if output.stop_reason == "model_length" and output.usage is None:
            # Inspect makes an answer of this error; nothing was paid for it.
            found = refusal_in(400, {"error": {"message": output.completion}}, self._clean)
            return None, replace(found, meaning="context"), None
        return output, None, None

    async def _generate(
        self, messages: list[ChatMessage], tools: list[ToolInfo], choice: Choice
    ) -> ModelOutput:
        # Inspect keeps an event of each call, with all its messages, as long as the process lives.
        init_transcript(Transcript())
        return await self.model.generate(messages, tools=tools, tool_choice=choice)

    def _kind_of_wait(
        self, refusal: Refusal, failure: BaseException | None, tries: "_Tries"
    ) -> WaitKind:
        """Return what the next try waits for. Raises where there must not be another try."""
        what = f"{self.model}: {refusal}"
        if refusal.meaning == "context":
            raise ContextExceeded(refusal)
        if refusal.meaning == "account" or (refusal.meaning == "key" and self.accepted):
            return "account"
        if refusal.meaning == "overload":
            if refusal.sure or (failure is not None and self.model.should_retry(failure)):
                return "overload"
        # A garbled answer, an error in the client, or a gateway that returns a bare 404 once.
        elif refusal.sure or not self.accepted:
            self._raise(refusal, what)
        tries.odd += 1
        if tries.odd > ODD_TRIES:
            self._raise(refusal, what)
        return "overload"

    def _raise(self, refusal: Refusal, what: str) -> NoReturn:
        if refusal.meaning == "conversation":
            raise ConversationRejected(what)
        if refusal.meaning == "overload":
            raise ModelUnavailable(f"{what}; set it right and resume the campaign")
        raise SettingsRefused(f"{what}; set it right and resume the campaign")

    def _advised_s(self, failure: BaseException | None) -> float:
        """Return the seconds that the provider asks for in `retry-after`, or 0."""
        if failure is None:
            return 0.0
        asked: Any = getattr(self.model.api, "should_retry", lambda _error: None)(failure)
        return float(getattr(asked, "retry_after", None) or 0.0)


@dataclass
class _Tries:
    """The tries of one call: how many so far, how many of them were odd, and the next pause."""

    patience: Patience
    number: int = 0
    odd: int = 0
    kind: WaitKind | None = None
    _wait_s: float = 0.0
    _longest_s: float = 0.0
    _give_up: float = 0.0

    def begin(self, kind: WaitKind) -> None:
        patience, self.kind = self.patience, kind
        account = kind == "account"
        self._wait_s = patience.account_first_s if account else patience.first_wait_s
        self._longest_s = patience.account_longest_s if account else patience.longest_wait_s
        self._give_up = time.monotonic() + patience.give_up_s

    def pause_s(self, advised_s: float) -> float:
        self.number += 1
        longest = max(self._longest_s, self._wait_s)
        pause = min(max(self._wait_s * random.uniform(0.75, 1.0), advised_s), longest)
        self._wait_s = min(self._wait_s * 2, self._longest_s)
        return pause

    def given_up(self, pause_s: float) -> bool:
        return time.monotonic() + pause_s > self._give_up


def open_model(spec: LanguageSpec) -> Model:
    """Open the provider's client. Keys come from the environment variables of Inspect's providers.

    Raises BadInput for an unknown provider or a key in `model_args`. Raises SettingsRefused where
    the key or the provider's package is missing.
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
            said = re.sub(r"\[/?[a-z ]+\]", "", str(error)).strip()  # marked up for a terminal
            raise SettingsRefused(f"model {spec.model!r}: {said}") from error
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
