"""A model of Inspect that answers single questions, for readers on the platform's books."""

import asyncio

from inspect_ai.log._transcript import Transcript, init_transcript
from inspect_ai.model import GenerateConfig, ModelOutput

from aarlab.agents.language import budget
from aarlab.agents.language.models import open_model
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.prices import Price
from aarlab.agents.refusals import refusal_of
from aarlab.agents.specs import LanguageSpec
from aarlab.verify.review import Reply, Unanswered

RETRIES = 3


class InspectAsker:
    """Calls one model. Keys come from the environment variables of Inspect's providers."""

    def __init__(self, model: str, price: Price, answer_tokens: int) -> None:
        self._spec = LanguageSpec(model=model, temperature=0, max_output_tokens=answer_tokens)
        self._model, self._price = open_model(self._spec), price
        self._clean = cleaner([getattr(self._model.api, "api_key", None)])
        self._runner = asyncio.Runner()

    def __call__(self, prompt: str) -> Reply:
        """Ask. The text is empty where the answer was cut off.

        Raises Unanswered; without an HTTP status, the call may be billed all the same.
        """
        try:
            output = self._runner.run(self._generated(prompt))
        except Exception as error:
            refusal = refusal_of(error, self._clean)
            raise Unanswered(refusal, billed=refusal.status is None) from error
        text = output.completion if output.stop_reason == "stop" else ""
        if output.usage is None:
            return Reply(text)
        cost = budget.record("read", self._spec, self._price, output, 0)
        return Reply(text, budget.tokens_of(cost))

    async def _generated(self, prompt: str) -> ModelOutput:
        # Inspect keeps an event of each call, with all its messages, as long as the process lives.
        init_transcript(Transcript())
        return await self._model.generate(prompt, config=GenerateConfig(max_retries=RETRIES))

    def close(self) -> None:
        """End the client's connections, which live in the runner's event loop."""
        try:
            self._runner.run(self._model.api.aclose())
        finally:
            self._runner.close()
