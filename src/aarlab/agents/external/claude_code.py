"""Claude Code as an AAR in its sandbox, its supervisor and its transcript.

The sandbox has no network, no key and no token, only one socket to the platform and one to the
model, both of this process. A run of it ends when it thinks it is done. While there is budget left,
it is asked to continue in the same conversation, which Claude Code keeps in the workspace. The
supervisor starts from the beginning or continues where it was, on another machine too: then the
state is kept before each model call, before its booking, and before what may write to the platform
(agents.keeping). The transcript is made of the model calls as the proxy saw them.

Covered: the model key and the AAR's token stay with this process (proxy, platform_proxy). Models
but the one named are refused. The budget is a wall at the proxy. Each model call is in the
transcript, as this process saw it: what the model said, which tools it called, and the results that
the agent sent back since the call before. A call that was under way when the process or its machine
was lost is booked at the most that it can have cost.
Not covered: how Claude Code resumes a tool call that `kill -9` cut off, and what it had not yet
written of its conversation then; it may do again what it did last, and is told so after a move.
Device seconds are the run's wall time less that of its model calls. The transcript leaves out
interfaces other than Anthropic's, and what the agent did without saying so.
"""

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ConfigDict

from aarlab.agents.config import AarConfig
from aarlab.agents.external.connect import mcp_servers
from aarlab.agents.external.platform_proxy import SOCKET as PLATFORM_SOCKET
from aarlab.agents.external.platform_proxy import PlatformProxy
from aarlab.agents.keeping import Keeper, PlatformKeeper
from aarlab.agents.language.budget import budget_text
from aarlab.agents.language.models import SettingsRefused
from aarlab.agents.language.prompts import (
    SEEN,
    SeenTask,
    filled,
    limits_text,
    places_of,
    system_text,
    write_notes,
)
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.language.transcripts import TranscriptWriter
from aarlab.agents.platform_link import Signals, beating
from aarlab.agents.prices import price_of
from aarlab.agents.proxy.booking import Ledger
from aarlab.agents.proxy.calls import Asked
from aarlab.agents.proxy.proxy import SOCKET, Proxy, listening, vendors_client
from aarlab.agents.proxy.settings import ProxySettings
from aarlab.agents.refusals import Refusal
from aarlab.agents.specs import ExternalSpec, LanguageSpec
from aarlab.agents.state import AarState, Claim, load_state
from aarlab.agents.trial import ONE_THREAD, sandbox_kind, task_mounts
from aarlab.client.platform import PlatformClient
from aarlab.core.clock import now_iso
from aarlab.core.errors import AarlabError, BadInput, NotFound, Superseded
from aarlab.core.extras import installed
from aarlab.core.files import write_atomic
from aarlab.core.foreign import storable
from aarlab.core.isolation import is_isolated
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import EntryKind, TranscriptEntry
from aarlab.core.wire import Me, Spend
from aarlab.core.wire_ledger import WaitKind
from aarlab.core.wire_service import ModelCall, NewWait
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SOCKET_DIR, Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import copy_in, copy_out

MAX_TEXT = 20_000


class Recorder:
    """`clean` takes secrets out. One per AAR; calls may come from several threads."""

    def __init__(self, path: Path, clean: Callable[[str], str]) -> None:
        self._writer, self._clean = TranscriptWriter(path), clean
        self._lock, self._turn = threading.Lock(), self._writer.turn

    def seen(self, asked: Asked, raw: bytes, call: ModelCall) -> None:
        if asked.api != "messages":
            return
        with self._lock:
            self._turn += 1
            made = [
                TranscriptEntry(
                    seq=self._writer.last + 1 + number,
                    at=now_iso(),
                    session=1,
                    turn=self._turn,
                    kind=kind,
                    text=storable(self._clean(text))[:MAX_TEXT],
                    tool=tool and storable(tool),
                    call=id_ and storable(id_),
                    tokens={k: v for k in TOKEN_KINDS if (v := getattr(call, k))}
                    if kind == "assistant"
                    else {},
                    dollars=call.dollars if kind == "assistant" else None,
                )
                for number, (kind, text, tool, id_) in enumerate(entries_of(asked, raw))
            ]
            self._writer.add(made)


Told = tuple[EntryKind, str, str | None, str | None]


def entries_of(asked: Asked, raw: bytes) -> Iterator[Told]:
    """Yield what is new in the request, then the answer: kind, text, tool, id of the call."""
    messages = asked.raw.get("messages")
    last = messages[-1] if isinstance(messages, list) and messages else {}
    for part in _parts(last.get("content") if isinstance(last, dict) else None):
        if part.get("type") == "tool_result":
            yield "tool_result", _text(part.get("content")), None, str(part.get("tool_use_id"))
        elif part.get("type") == "text":
            yield "user", str(part.get("text")), None, None
    blocks = list(_streamed(raw) if asked.streams else _parts(_json(raw).get("content")))
    said = "\n".join(str(b.get("text") or b.get("thinking") or "") for b in blocks).strip()
    yield "assistant", said, None, None
    for block in blocks:
        if block.get("type") == "tool_use":
            arguments = json.dumps(block.get("input"), ensure_ascii=False)
            yield "tool_call", arguments, str(block.get("name")), str(block.get("id"))


def _streamed(raw: bytes) -> Iterator[dict[str, Any]]:
    """Yield content blocks put together from the events of a stream."""
    blocks: dict[str, dict[str, Any]] = {}
    for line in raw.split(b"\n"):
        event = _json(line[5:]) if line.startswith(b"data:") else {}
        index, delta = str(event.get("index")), event.get("delta")
        if event.get("type") == "content_block_start":
            begun = event.get("content_block")
            blocks[index] = dict(begun) if isinstance(begun, dict) else {}
        elif index in blocks and isinstance(delta, dict):
            for name in ("text", "thinking", "partial_json"):
                blocks[index][name] = str(blocks[index].get(name, "")) + str(delta.get(name, ""))
    for block in blocks.values():
        if block.get("type") == "tool_use":
            block["input"] = _json(str(block.get("partial_json", "")).encode(errors="replace"))
        yield block


def _json(raw: bytes) -> dict[str, Any]:
    try:
        read = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return read if isinstance(read, dict) else {}


def _parts(content: Any) -> list[dict[str, Any]]:
    if isinstance(content, str):
        return [{"type": "text", "text": content}]
    return [p for p in content if isinstance(p, dict)] if isinstance(content, list) else []


def _text(content: Any) -> str:
    return "".join(str(part.get("text") or "") for part in _parts(content))


LOG = logging.getLogger("aarlab.agents")
MODELS_SEEN = "/run/models"
MODELS_PORT, PLATFORM_PORT = 8081, 8082
SETUP, FINISHED = ".aarlab/setup.json", "finished"
MOVED = (
    "What you posted, submitted or asked for since then is on the platform: look before you do it "
    "again (my_budget, search_findings)."
)
MAX_FAILURES = 5
POLL_S, PAUSE_POLL_S = 2.0, 15.0
STOPPED = "the operator stopped it"


class Progress(BaseModel):
    """`external.json`: what this supervisor did, for the one after it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    runs: int = 0
    operator_after: int = 0


@dataclass
class ClaudeCode:
    """One AAR. `connect` opens a client of the platform for each thread that needs one."""

    config: AarConfig
    spec: ExternalSpec
    platform: PlatformClient
    connect: Callable[[], PlatformClient]
    keeper: Keeper = field(default_factory=Keeper)
    settings: ProxySettings = field(default_factory=ProxySettings)
    first_wait_s: float = 5.0
    longest_wait_s: float = 1800.0
    _ledger: Ledger = field(init=False)
    _model_s: float = 0.0
    _provider: threading.Lock = field(default_factory=threading.Lock)
    _refusal: Refusal | None = None  # of the last call; None where it was accepted
    _accepted: bool = False
    _waiting: WaitKind | None = None

    def __post_init__(self) -> None:
        config = self.config
        journal = config.home / "model-calls.jsonl"
        prices, keep = config.prices, self.keeper.keep
        self._ledger = Ledger(journal, self.connect, lambda name: price_of(name, prices), keep)

    def run(self) -> str:
        """Run Claude Code; return why it ended. Raises NotFound without the package or the key."""
        if not installed("claude_agent_sdk"):
            raise NotFound("Claude Code is not installed; run: pip install 'aarlab[claude-code]'")
        if not is_isolated(self.config.isolation):
            raise BadInput("claude-code needs the bubblewrap sandbox: outside it would see the key")
        self.settings.key("anthropic")
        config, life = self.config, self.platform.life.number
        platform = PlatformProxy(config.address, self._token(), life, self.keeper.keep)
        with (
            vendors_client(self.settings) as vendors,
            listening(self._proxy(vendors), self._models, config.uid),
            platform.serving(self._platform, config.uid),
        ):
            return self._live()

    @property
    def _models(self) -> Path:
        return self.config.home / "models"

    @property
    def _platform(self) -> Path:
        return self.config.home / "platform"

    def _proxy(self, vendors: httpx.Client) -> Proxy:
        config, model, token = self.config, self.spec.model or "", self._token()
        clean = cleaner([self.settings.key("anthropic"), token])
        recorder = Recorder(config.home / "transcript.jsonl", clean)

        def seen(asked: Asked, raw: bytes, call: ModelCall) -> None:
            self._model_s += call.seconds
            recorder.seen(asked, raw, call)

        return Proxy(self.settings, self._ledger, [model], token, vendors, seen, self._noticed)

    def _noticed(self, refusal: Refusal | None, took_s: float) -> None:
        """Report to the platform when waiting for the provider begins and ends.

        That time does not count as research. Called from several threads.
        """
        with self._provider:
            self._refusal = refusal
            self._accepted = self._accepted or refusal is None
            kind: WaitKind | None = None
            if refusal is not None and self._waits_for(refusal):
                kind = "overload" if refusal.meaning == "overload" else "account"
            if kind == self._waiting:
                return
            self._waiting = kind
            with self.connect() as platform:
                note = "" if refusal is None else f"{self.spec.model}: {refusal}"
                platform.wait(NewWait(kind=kind or "research", note=note, ago_s=took_s))

    def _waits_for(self, refusal: Refusal) -> bool:
        accepted = self._accepted and refusal.meaning == "key"
        return accepted or refusal.meaning in ("account", "overload")

    # ------------------------------------------------------------ runs
    def _live(self) -> str:
        failures = 0
        write_notes(self.config.home / "notes", self._places(), self.config.problem)
        progress = self._progress()
        while (why := self._end(progress)) is None:
            progress = self._begun(progress)
            done = self._in_sandbox(progress)
            failures = 0 if done.ok or done.killed_by == "cancel" else failures + 1
            refusal = self._refusal
            if failures and refusal is not None:
                self._check_settings(refusal)
                if self._waits_for(refusal):
                    # The agent has given up; its provider, not the agent, is what failed.
                    self._wait(min(self.first_wait_s * 2 ** (failures - 1), self.longest_wait_s))
                    continue
            if failures > MAX_FAILURES:
                last = done.stderr.decode(errors="replace")[-500:]
                raise AarlabError(f"Claude Code failed {failures} times in a row: {last}")
            if failures:
                self._wait(self.first_wait_s * 2 ** (failures - 1))
        return why

    def _check_settings(self, refusal: Refusal) -> None:
        """Raise SettingsRefused where the provider would refuse the same run again."""
        key = refusal.meaning == "key" and not self._accepted
        if key or (refusal.meaning == "settings" and refusal.sure):
            raise SettingsRefused(f"{refusal}; set it right and resume the campaign")

    def _wait(self, seconds: float) -> None:
        """Wait for `seconds`, or until the operator stops the AAR."""
        end = time.monotonic() + seconds
        while (left_s := end - time.monotonic()) > 0 and self.platform.me().wanted != "stop":
            time.sleep(min(left_s, POLL_S))

    def _end(self, progress: Progress) -> str | None:
        me = self.platform.me()
        while me.wanted == "pause":
            self.platform.wanted("pause", PAUSE_POLL_S)
            me = self.platform.me()
        if why := _over(me) or self._ledger.refused:
            return why
        if progress.runs >= self.spec.max_runs:
            return f"all {self.spec.max_runs} runs are used up"
        return "the agent says that it is finished" if self._says_finished() else None

    def _says_finished(self) -> bool:
        try:
            copy_out(self.sandbox, FINISHED, 10_000)
        except NotFound:
            return False
        except BadInput:
            return True
        return True

    def _begun(self, progress: Progress) -> Progress:
        """Write the next run's instructions into the workspace; it is counted before it begins."""
        messages = self.platform.messages(progress.operator_after)
        told = [f"[Message from the operator {m.by}, {m.at}]\n{m.text}" for m in messages]
        if self.keeper.moved:
            self.keeper.moved = False
            told.append(f"{self.keeper.lost()} {MOVED}")
        again = progress.runs > 0
        prompt = self._text("go_on" if again else "start", budget=budget_text(self.platform.me()))
        setup = {
            "prompt": "\n\n".join([*told, prompt]),
            "system": self._system(),
            "model": (self.spec.model or "").partition("/")[2],
            "again": again,
            **mcp_servers(f"http://127.0.0.1:{PLATFORM_PORT}/mcp"),
        }
        copy_in(self.sandbox, {SETUP: json.dumps(setup).encode()})
        last = messages[-1].seq if messages else progress.operator_after
        progress = Progress(runs=progress.runs + 1, operator_after=last)
        write_atomic(self.config.home / "external.json", progress.model_dump_json() + "\n")
        return progress

    def _in_sandbox(self, progress: Progress) -> Finished:
        rules = [
            f"{MODELS_PORT}={MODELS_SEEN}/{SOCKET}",
            f"{PLATFORM_PORT}={SOCKET_DIR}/{PLATFORM_SOCKET}",
        ]
        inside = ["-m", "aarlab.agents.external.claude_inside", SETUP]
        argv = [sys.executable, "-m", "aarlab.agents.proxy.forward", *rules]
        self._model_s = 0.0
        with self._watching() as cancel:
            done = run(self.sandbox, [*argv, "--", sys.executable, *inside], None, cancel)
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-500:]
            LOG.warning("Claude Code ended with %s (%s): %s", done.returncode, done.killed_by, said)
        spend = Spend(kind="device_s", amount=max(done.wall_s - self._model_s, 0.0))
        self.platform.spend(spend, key=f"{self.config.name}-run-{progress.runs}")
        return done

    @contextmanager
    def _watching(self) -> Iterator[threading.Event]:
        """Yield an event that is set when the AAR must end now.

        The operator stops or pauses it, a budget ends, or a newer process of the AAR has begun.
        """
        cancel, over = threading.Event(), threading.Event()

        def look() -> None:
            with self.connect() as platform:
                while not over.wait(POLL_S):
                    try:
                        me = platform.me()
                    except Superseded:
                        cancel.set()
                        return
                    except AarlabError as error:
                        LOG.warning("while Claude Code ran: %s", error)
                        continue
                    if me.wanted != "run" or _over(me) or self._ledger.refused:
                        cancel.set()
                        return

        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        try:
            yield cancel
        finally:
            over.set()
            thread.join()

    # ------------------------------------------------------------ what it is given
    @property
    def sandbox(self) -> SandboxSpec:
        seen = {self.config.home / "notes": SEEN, self._models: MODELS_SEEN}
        alone = alone_in(self.config, self.spec)
        socket = self._platform / PLATFORM_SOCKET
        return replace(alone, read_only={**alone.read_only, **seen}, socket=socket)

    def _places(self) -> dict[str, str]:
        return places_of(self._tasks(), "/workspace", SEEN, limits_text(self.sandbox.limits))

    def _system(self) -> str:
        """Return the instructions of our own language-model AARs, and how the tools differ here."""
        plain = LanguageSpec(model=self.spec.model or "none")
        config = self.config
        told = system_text(config.name, config.direction, plain, self._tasks(), self._places())
        return f"{told}\n{self._text('tools')}"

    def _text(self, name: str, **values: str) -> str:
        places = {"platform": f"http://127.0.0.1:{PLATFORM_PORT}", "finished": FINISHED}
        file = resources.files("aarlab.agents.external") / "prompts" / f"{name}.md"
        return filled(file.read_text(encoding="utf-8"), {**places, **values}).strip()

    def _tasks(self) -> list[SeenTask]:
        inside, infos = task_mounts(self.config.tasks), self.config.infos()
        return [SeenTask(infos[name], inside[path]) for name, path in self.config.tasks.items()]

    def _token(self) -> str:
        return self.config.token_file.read_text(encoding="utf-8").strip()

    def _progress(self) -> Progress:
        path = self.config.home / "external.json"
        return Progress.model_validate_json(path.read_bytes()) if path.exists() else Progress()


def alone_in(config: AarConfig, spec: ExternalSpec) -> SandboxSpec:
    """Return the sandbox of the AAR without what leads to the platform and to models."""
    limits = SandboxLimits(
        wall_s=spec.run_s,
        cpu_s=4 * spec.run_s,
        memory_mb=spec.memory_mb,
        processes=spec.processes,
    )
    return SandboxSpec(
        workspace=config.workspace,
        read_only=task_mounts(config.tasks),
        limits=limits,
        uid=config.uid,
        env=ONE_THREAD | _VARIABLES,
        isolation=sandbox_kind(config.isolation),
    )


def _over(me: Me) -> str | None:
    """Return why the AAR must end now, or None."""
    return STOPPED if me.wanted == "stop" else me.exhausted or None


_VARIABLES = {
    "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{MODELS_PORT}",
    "ANTHROPIC_API_KEY": "added-by-the-proxy",
    "CLAUDE_CONFIG_DIR": "/workspace/.claude",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
    "DISABLE_AUTOUPDATER": "1",
    "IS_SANDBOX": "1",
}


def run_external(
    config: AarConfig, connect: Callable[[], PlatformClient], wanted_file: Path | None = None
) -> AarState:
    """Run the AAR until it finishes.

    Raises if it cannot continue, and Superseded once a newer process of the AAR has begun.
    """
    if config.external is None or config.external.agent != "claude-code":
        raise BadInput(f"{config.name} joins by itself: it has no process here")
    with connect() as platform:
        keeper = Keeper()
        if config.kept:
            sandbox = alone_in(config, config.external)
            keeper = PlatformKeeper(platform, config.home, sandbox, config.again)
        life = platform.open_session().life
        keeper.began(life)
        claim = Claim(config.home, life)
        claim.make()
        state = load_state(config.state)
        if not state.finished:
            with beating(connect, Signals(), wanted_file):
                why = ClaudeCode(config, config.external, platform, connect, keeper).run()
            state = state.ended(why)
            claim.save(config.state, state)
        keeper.keep()
    return state
