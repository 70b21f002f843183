"""A language-model AAR on the toy task: real platform, real sandbox, scripted or faked model."""

import json
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from inspect_ai.model import (
    ChatCompletionChoice,
    ChatMessage,
    ChatMessageAssistant,
    ModelOutput,
    ModelUsage,
)
from inspect_ai.tool import ToolCall
from platform_kit import Running, TinyTask, platform

from aarlab.agents.config import AarConfig
from aarlab.agents.language.loop import LanguageAar, build
from aarlab.agents.language.state import LoopState
from aarlab.agents.platform_link import Link, Signals, beating
from aarlab.agents.specs import LanguageSpec
from aarlab.client.platform import PlatformClient
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.supervision import supervisor_key
from aarlab.core.transcript import TranscriptEntry, read_transcript
from aarlab.core.wire import Limits, NewAar
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

Reply = Callable[[list[ChatMessage]], ModelOutput]


def calls(*made: tuple[str, dict[str, Any]], text: str = "", tokens: int = 100) -> ModelOutput:
    """An answer that calls tools."""
    tools = [
        ToolCall(id=f"call{number}", function=name, arguments=arguments)
        for number, (name, arguments) in enumerate(made)
    ]
    return answer(text, tools, tokens)


def answer(
    text: str, tools: list[ToolCall] | None = None, tokens: int = 100, stop: Any = None
) -> ModelOutput:
    message = ChatMessageAssistant(content=text, tool_calls=tools or None)
    reason = stop or ("tool_calls" if tools else "stop")
    usage = ModelUsage(input_tokens=tokens, output_tokens=10, total_tokens=tokens + 10)
    choice = ChatCompletionChoice(message=message, stop_reason=reason)
    return ModelOutput(model="mock", choices=[choice], usage=usage)


@dataclass
class Bench:
    """A platform that runs, and AARs made on it."""

    running: Running
    root: DataRoot
    made: int = 0

    def config(self, spec: LanguageSpec, name: str = "ada", **limits: Any) -> AarConfig:
        run, task = self.running.run, "gauss"
        home = run.aar(name)
        uid = aar_uid(self.made)
        self.made += 1
        prepare_workspace(home / "workspace", uid)
        token = run.tokens / name
        if not token.exists():
            new = NewAar(name=name, researcher="language", direction="d", limits=Limits(**limits))
            with self.running.operator() as operator:
                token.write_text(operator.register(new).token)
        config = AarConfig(
            name=name,
            researcher="language",
            direction="elicitation",
            methods=[],
            seed=0,
            tasks={task: self.root.public_task(task).absolute()},
            home=home.absolute(),
            token_file=token.absolute(),
            supervisor_file=_supervisor(self.running, name),
            socket=run.socket.absolute(),
            models=self.root.models.absolute(),
            n_seeds=2,
            max_trials=100,
            trial_timeout_s=60.0,
            isolation="bubblewrap",
            uid=uid,
            language=spec,
        )
        (home / "aar.json").write_text(config.model_dump_json())
        return config


def _supervisor(running: Running, name: str) -> Path:
    path = running.run.platform / "supervisors" / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(supervisor_key(running.operator_token, name))
    return path.absolute()


@contextmanager
def bench(root: DataRoot, run: RunDir, *options: str):
    task = TinyTask(root, "gauss", {})
    with platform(task, run, *options) as running:
        yield Bench(running, root)


def connect(config: AarConfig) -> PlatformClient:
    return Link(config, 20)()


@dataclass
class Mock:
    """A model that is a function of the conversation; counts what it was asked."""

    reply: Reply
    asked: list[int] = field(default_factory=list)

    def __call__(self, messages: list[ChatMessage], *_: Any) -> ModelOutput:
        self.asked.append(len(messages))
        return self.reply(messages)


def mock_spec(reply: Reply, **more: Any) -> LanguageSpec:
    model = reply if isinstance(reply, Mock) else Mock(reply)
    return LanguageSpec(model="mockllm/model", model_args={"custom_outputs": model}, **more)


@contextmanager
def aar(config: AarConfig, spec: LanguageSpec | None = None):
    """An AAR, built as its process would; `spec` may hold what no file can, e.g. a function."""
    if spec is not None:
        config = config.model_copy(update={"language": spec})
    link, signals = Link(config, 20), Signals()
    with link() as one, beating(link, signals):
        made = build(config, one, signals)
        try:
            yield made
        finally:
            made.kit.backgrounds.kill_all()
            made.caller.asker.close()


def live(config: AarConfig, spec: LanguageSpec | None = None) -> LoopState:
    with aar(config, spec) as made:
        return made.run()


def transcript(config: AarConfig) -> list[TranscriptEntry]:
    return list(read_transcript(config.home / "transcript.jsonl"))


def results(config: AarConfig) -> list[str]:
    return [entry.text for entry in transcript(config) if entry.kind == "tool_result"]


def saved(config: AarConfig) -> dict[str, Any]:
    return json.loads((config.home / "loop.json").read_text())


def script(*moves: ModelOutput) -> Reply:
    """Answers by the number of assistant messages so far; `finish` afterwards."""

    def reply(messages: list[ChatMessage]) -> ModelOutput:
        done = sum(isinstance(m, ChatMessageAssistant) for m in messages)
        return moves[done] if done < len(moves) else calls(("finish", {"reason": "done"}))

    return reply


__all__ = ["Bench", "LanguageAar", "Mock", "Path", "aar", "answer", "bench", "calls"]
