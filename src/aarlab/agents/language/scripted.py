"""Inspect's model names `scripted/NAME`: a script in place of a paid model.

The answer is a function of the conversation alone, so that it survives a restart. It costs no
money. Usage is made up from the lengths, the same for the same conversation.
"""

import asyncio
from collections.abc import Sequence
from typing import Any

from inspect_ai.model import ChatCompletionChoice as Choice
from inspect_ai.model import (
    ChatMessage,
    ChatMessageAssistant,
    ChatMessageTool,
    GenerateConfig,
    ModelAPI,
    ModelOutput,
    ModelUsage,
    modelapi,
)
from inspect_ai.tool import ToolCall, ToolChoice, ToolInfo

from aarlab.agents.language.context import estimate, estimate_tools
from aarlab.agents.language.personalities import personality
from aarlab.agents.language.scripts import Called, Talk, Turn, next_move

PROVIDER = "scripted"


class Scripted(ModelAPI):
    """A script as a model of Inspect; each answer takes `think_s`.

    `model_args` replace fields of the personality (`rounds`, `seeds`, `pause_s` ...).
    """

    def __init__(
        self,
        model_name: str,
        base_url: str | None = None,
        api_key: str | None = None,
        config: GenerateConfig | None = None,
        **model_args: Any,
    ) -> None:
        super().__init__(model_name, base_url, api_key, [], config or GenerateConfig())
        self._think_s = float(model_args.pop("think_s", 0.0))
        self._who = personality(model_name, **model_args)

    async def generate(
        self,
        input: list[ChatMessage],
        tools: list[ToolInfo],
        tool_choice: ToolChoice,
        config: GenerateConfig,
    ) -> ModelOutput:
        await asyncio.sleep(self._think_s)
        step, move = next_move(self._who, talk_of(input))
        calls = [
            ToolCall(id=f"{step}c{number}", function=tool, arguments=dict(arguments))
            for number, (tool, arguments) in enumerate(move.calls)
        ]
        message = ChatMessageAssistant(
            content=move.say, tool_calls=calls or None, model=self.model_name, source="generate"
        )
        size, said = estimate(input) + estimate_tools(tools), estimate([message])
        usage = ModelUsage(input_tokens=size, output_tokens=said, total_tokens=size + said)
        choice = Choice(message=message, stop_reason="tool_calls" if calls else "stop")
        return ModelOutput(model=self.model_name, choices=[choice], usage=usage)


def talk_of(messages: Sequence[ChatMessage]) -> Talk:
    """Return a conversation of Inspect's as a script reads it."""
    return Talk([_turn(message) for message in messages])


def _turn(message: ChatMessage) -> Turn:
    if isinstance(message, ChatMessageTool):
        return Turn("tool", message.text, call=message.tool_call_id or "")
    calls: tuple[Called, ...] = ()
    if isinstance(message, ChatMessageAssistant):
        made = message.tool_calls or []
        calls = tuple(Called(call.id, call.function, call.arguments) for call in made)
    return Turn(message.role, message.text, calls)


def register_scripted() -> None:
    """Make the names known to Inspect; harmless when repeated."""
    modelapi(name=PROVIDER)(Scripted)
