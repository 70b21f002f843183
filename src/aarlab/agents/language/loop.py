"""The durable loop of a language-model AAR: a state machine whose every step can be killed.

    ready ──► asking ──► tools ──► ready        a turn
    ready ──► summing_up ──► ready              the conversation became too long

Covered: `kill -9` at any line. A model call has its id in the saved state before it is made; its
answer is on disk before anything is done with it, so that only a call in flight is ever repeated.
Tools run one by one, each result saved; one that was cut off is reported to the model, not run
again, unless running it again is harmless. Platform writes carry keys made of the AAR's name and
the place of the call.
A process whose AAR has a newer one stops at once (Superseded): the session, which begins a life, is
opened and the folder claimed before anything is loaded.
Not covered: what a cut-off model call cost at its provider; device seconds of a background command
since they were last booked.

Puts one language-model AAR together from its config and lets it live.
"""

import logging
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from inspect_ai.model import ChatMessageUser

from aarlab.agents.config import AarConfig
from aarlab.agents.forum_files import sync_forum
from aarlab.agents.keeping import Keeper, PlatformKeeper
from aarlab.agents.language import context
from aarlab.agents.language.budget import (
    budget_text,
    nearly_used_up,
    submissions_used_up,
    tokens_of,
    used_up,
)
from aarlab.agents.language.calling import (
    Answerer,
    Caller,
    backgrounds_booked,
    context_tokens,
    cost,
    told,
    turn_heard,
)
from aarlab.agents.language.inspect_logs import write_log
from aarlab.agents.language.models import (
    Asker,
    ContextExceeded,
    ConversationRejected,
    Interrupted,
    SettingsRefused,
    open_model,
)
from aarlab.agents.language.prompts import (
    SEEN,
    TRYING,
    SeenTask,
    filled,
    limits_text,
    places_of,
    prompt_hash,
    system_text,
    text_of,
    write_notes,
)
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.language.scripted import register_scripted
from aarlab.agents.language.state import Answer, LoopState, Phase, Store
from aarlab.agents.language.steering import STOPPED, Steering
from aarlab.agents.language.tools.kit import Backgrounds, Devices, Kit
from aarlab.agents.language.tools.platform import platform_tools, served_tools
from aarlab.agents.language.tools.sandboxed import sandbox_tools
from aarlab.agents.platform_link import Signals, beating
from aarlab.agents.prices import price_of
from aarlab.agents.refusals import Refusal
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.trial import (
    BASE_MB,
    ONE_THREAD,
    sandbox_kind,
    student_mounts,
    task_mounts,
)
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput, BudgetExhausted, NotFound, Superseded
from aarlab.core.wire import Me
from aarlab.sandbox.devices import found, system_files
from aarlab.sandbox.leases import Leases
from aarlab.sandbox.settings import visible_devices
from aarlab.sandbox.spec import SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import copy_out
from aarlab.students.settings import DeviceSettings

LOG = logging.getLogger("aarlab.agents")
SYNC_EVERY_S = 30.0
LOG_EVERY_TURNS = 25
MAX_EMPTY = 20
MAX_NOTEBOOK = 400_000
BOOK_EVERY_S = 60.0
WRAP_UP_TURNS = 20
MAX_TOO_LONG = 5  # refusals for length without an answer in between
MAX_DISCARDED = 5  # conversations that were refused for what they say


@dataclass
class LanguageAar:
    """The parts of one AAR process. `system` is its system prompt."""

    name: str
    system: str
    kit: Kit
    caller: Caller
    answerer: Answerer
    steering: Steering
    forum: bool = True
    prompts: Callable[[], str] = prompt_hash
    leaving: threading.Event = field(default_factory=threading.Event)
    _synced: float = field(default=-1e9, init=False)
    _tools_size: int = field(default=0, init=False)
    _least: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        self._tools_size = context.estimate_tools(self.caller.infos)
        self._least = int((self._tools_size + len(self.system) / context.CHARS_PER_TOKEN) * 1.2)
        if self.kit.spec.context_tokens < self._least:
            raise BadInput(
                f"context_tokens is {self.kit.spec.context_tokens}: prompt and tools alone need "
                f"{self._least}; a conversation needs several times as much"
            )

    @property
    def platform(self) -> PlatformClient:
        return self.kit.platform

    @property
    def store(self) -> Store:
        return self.kit.store

    # ------------------------------------------------------------ life
    def run(self) -> LoopState:
        """Run from the start, or from where a killed process was, to the end of the budget.

        Returns an unfinished state after the step in which `leaving` is set.
        Raises Superseded once a newer process of the AAR has begun.
        """
        state = self._opened()
        try:
            while not (state.finished or self.leaving.is_set()):
                state = self._step(state)
        except Superseded:
            raise
        except AarlabError:
            self.kit.backgrounds.kill_all()
            with suppress(AarlabError):  # what stopped it counts, and is in the transcript
                self.kit.keeper.keep()
            raise
        finally:
            self.kit.backgrounds.kill_all()
        self.kit.keeper.keep()
        return state

    def _opened(self) -> LoopState:
        life = self.platform.open_session().life
        self.kit.keeper.began(life)
        self.store.claim(life)
        state = self.store.load()
        if state is not None and state.finished:
            if self.store.closed():
                return self.store.save(state)
            state = state.but(finished=False, why="", warned=False).said(
                "note", "the budget was extended"
            )
        if state is None:
            return self._fresh(LoopState(prompt_hash=self.prompts()))
        if state.prompt_hash != self.prompts():
            state = state.but(prompt_hash=self.prompts())
            state = state.said("error", "alert: the prompts changed since this AAR began")
        state = state.said("note", "process restarted")
        if self.kit.keeper.moved:
            state = state.but(moved=self.kit.keeper.lost())
        return self.store.save(state)

    def _step(self, state: LoopState) -> LoopState:
        if state.phase == "ready":
            return self._ready(state)
        return self._tool(state) if state.phase == "tools" else self._model_call(state)

    def _end(self, state: LoopState, why: str) -> LoopState:
        self.kit.backgrounds.kill_all()
        state = backgrounds_booked(self.kit, self.name, state, every_s=0.0)
        if state.phase == "summing_up":  # the request was not answered
            state = state.but(messages=state.messages[:-1])
        state = state.but(finished=True, why=why, phase="ready").said("note", f"finished: {why}")
        self._log(state)
        return self.store.save(state)

    # ------------------------------------------------------------ between turns
    def _ready(self, state: LoopState) -> LoopState:
        if state.wants_end is not None:
            return self._end(state, state.wants_end)
        state, me = self.steering.heed(state)
        if why := state.wants_end or used_up(me) or self._turns_used_up(state):
            return self._end(state, why)
        state = backgrounds_booked(self.kit, self.name, state, BOOK_EVERY_S)
        state = _warned(state, me)
        if state.moved:
            state = told(state.but(moved=""), state.moved)
        self._sync()
        return self._fresh(state, me) if state.wants_session else self._room_made(state, me)

    def _turns_used_up(self, state: LoopState) -> str | None:
        if state.turn >= self.kit.spec.max_turns:
            return f"all {self.kit.spec.max_turns} turns are used up"
        if state.empty_in_a_row >= MAX_EMPTY:
            return f"the model called no tool in {MAX_EMPTY} answers in a row"
        if state.ends_at is not None and state.turn >= state.ends_at:
            return "the budget is used up: no submissions of predictions left"
        return None

    def _room_made(self, state: LoopState, me: Me) -> LoopState:
        """Continue to the model, or first make the conversation shorter."""
        limit = self._limit(state)
        if self._tokens(state) > limit and state.calls_in_part > 0:
            self._log(state)
            state = context.shortened(state.but(part=state.part + 1))
            if self._tokens(state) > limit * context.FULL_ENOUGH:
                ask = ChatMessageUser(content=text_of("summary"))
                room = int(limit * context.ROOM_TO_SUM_UP) - self._tools_size
                if self._tokens(state) > room + self._tools_size:
                    state = context.fitted(state, room - context.estimate([ask]))
                return self._called(state.with_messages(ask), "summing_up")
        return self._called(state.but(turn=state.turn + 1), "asking")

    def _limit(self, state: LoopState) -> int:
        """Return the tokens that a conversation may have.

        This is the spec's limit, or a lower one learned from the provider.
        """
        return min(self.kit.spec.context_tokens, state.context_limit or sys.maxsize)

    def _called(self, state: LoopState, phase: Phase) -> LoopState:
        number = state.calls + 1
        made = {"calls": number, "calls_in_part": state.calls_in_part + 1}
        return self.store.save(state.but(phase=phase, call=f"m{number:06d}", **made))

    def _fresh(self, state: LoopState, me: Me | None = None) -> LoopState:
        if state.messages:
            self._log(state)
        budget = budget_text(me or self.platform.me())
        notebook = self._notebook(self._limit(state))
        fresh = context.fresh_session(state, self.system, notebook, budget)
        return self.store.save(fresh)

    def _notebook(self, limit: int) -> str:
        try:
            raw = copy_out(self.kit.sandbox, context.NOTEBOOK, MAX_NOTEBOOK)
        except NotFound:
            return ""
        except AarlabError as error:
            return f"(it cannot be read: {error})"
        chars = int(limit * context.CHARS_PER_TOKEN / 4)
        return context.cut(raw.decode(errors="replace"), chars // 2, chars // 2)

    def _tokens(self, state: LoopState) -> int:
        """Return the tokens of the conversation, tools included."""
        tools = self._tools_size if state.known_messages == 0 else 0
        fresh = context.estimate(state.messages[state.known_messages :])
        return state.known_tokens + fresh + tools

    def _most_tokens(self, state: LoopState) -> int:
        """Return an upper estimate of `_tokens`, for a reservation."""
        tools = int(self._tools_size * 1.5) if state.known_messages == 0 else 0
        return (
            state.known_tokens + context.most_tokens(state.messages[state.known_messages :]) + tools
        )

    def _sync(self) -> None:
        if self.forum and time.monotonic() - self._synced >= SYNC_EVERY_S:
            config = self.kit.config
            figure = config.problem.figure
            sync_forum(self.platform, self.kit.sandbox, config.forum_cursor, figure)
            self._synced = time.monotonic()

    # ------------------------------------------------------------ the model
    def _model_call(self, state: LoopState) -> LoopState:
        """Make the call that the state names, or take up its answer."""
        try:
            answer = self.caller.answer(state, self._most_tokens(state))
        except BudgetExhausted as error:
            # A stop that came after the turn began is seen here first: nothing is reserved then.
            stopped = self.platform.me().wanted == "stop"
            why = STOPPED if stopped else f"the budget is used up: {error}"
            return self._end(self.caller.state, why)
        except Interrupted:
            self.caller.released(state.call or "")
            return self._end(self.caller.state, STOPPED)
        except ConversationRejected as error:
            return self._rejected(self.caller.state, error)
        except ContextExceeded as error:
            self.caller.released(state.call or "")
            return self._too_long(self._unasked(self.caller.state), error.refusal)
        except SettingsRefused as error:
            self._refused(self.caller.state, error)
            raise
        spent = {"dollars": answer.record.dollars, **tokens_of(answer.record)}
        state = self.caller.state.spent(spent).but(call=None)
        if answer.output.stop_reason == "model_length" and answer.output.choices:
            state = self._cut_by_the_window(state, answer)
        elif state.phase == "summing_up":
            state = self._summed_up(state.but(too_long=0, repaired=False), answer)
        else:
            state = turn_heard(state, answer, self.kit.spec.max_output_tokens)
        state = self.store.save(state)
        self.store.drop_answer(answer.record.call)
        return state

    def _unasked(self, state: LoopState) -> LoopState:
        """Return the state as it was before its current call, which the provider did not answer."""
        turn = state.turn
        if state.phase == "summing_up":
            state = state.but(messages=state.messages[:-1])
        else:
            turn -= 1
        in_part = max(state.calls_in_part - 1, 0)
        return state.but(call=None, phase="ready", turn=turn, calls_in_part=in_part)

    def _refused(self, state: LoopState, error: SettingsRefused) -> None:
        """Save the state from before the call, with the provider's error.

        A resumed AAR asks again.
        """
        self.caller.released(state.call or "")
        state = self._unasked(state).but(discarded=0, too_long=0)
        self.store.save(state.said("error", f"alert: stopped: {error}"))

    def _rejected(self, state: LoopState, error: ConversationRejected) -> LoopState:
        """Repair a conversation that the provider rejects, or else begin a fresh session.

        Raises SettingsRefused where a fresh session is rejected too, and after MAX_DISCARDED
        discarded conversations.
        """
        fresh = len(state.messages) <= 2
        if fresh or state.discarded >= MAX_DISCARDED:
            stop = SettingsRefused(f"{error}; set it right and resume the campaign")
            self._refused(state, stop)
            raise stop from error
        self.caller.released(state.call or "")
        state = self._unasked(state)
        repaired = None if state.repaired else context.without_last_results(state, str(error))
        if repaired is not None:
            note = f"the provider rejected the conversation, the last results are left out: {error}"
            return self.store.save(repaired.but(repaired=True).said("error", note))
        note = f"the provider rejected the conversation, a fresh session begins: {error}"
        state = state.but(discarded=state.discarded + 1, repaired=False)
        return self._fresh(state.said("error", note))

    def _too_long(self, state: LoopState, refusal: Refusal) -> LoopState:
        """Learn the provider's limit and continue with a shorter conversation.

        Raises SettingsRefused where a fresh session is still too long, and after more than
        MAX_TOO_LONG refusals without an answer in between.
        """
        size, answer = self._tokens(state), self.kit.spec.max_output_tokens
        learned = max(context.learned_limit(refusal, size, answer), self._least)
        limit = min(learned, self._limit(state))
        state = state.but(context_limit=limit, too_long=state.too_long + 1)
        note = (
            f"the conversation is too long for the model, {limit:,} tokens from now on: {refusal}"
        )
        state = state.said("error", note)
        if state.too_long > MAX_TOO_LONG or (state.too_long > 1 and len(state.messages) <= 2):
            stop = SettingsRefused(
                f"{refusal}; prompt, tools and max_output_tokens ({answer:,}) leave no room in the "
                "model's context: choose another model or fewer max_output_tokens"
            )
            self.store.save(state.but(too_long=0).said("error", f"alert: stopped: {stop}"))
            raise stop
        if state.too_long == MAX_TOO_LONG or len(state.messages) <= 2:
            return self._fresh(state)
        # The next step compacts: what did not fit counts as longer than the limit.
        known = {"known_tokens": limit + 1, "known_messages": len(state.messages)}
        return self.store.save(state.but(calls_in_part=max(state.calls_in_part, 1), **known))

    def _cut_by_the_window(self, state: LoopState, answer: Answer) -> LoopState:
        """Shorten the conversation after an answer that was cut off by the model's window.

        The answer was paid for. Its usage shows how long the window is.
        """
        text = f"the conversation is too long for the model: {answer.output.completion[:500]}"
        state = state.said("error", text, **cost(answer.record))
        full = context_tokens(answer.output) or None
        state = state.but(
            messages=state.messages[:-1] if state.phase == "summing_up" else state.messages,
            phase="ready",
        )
        return self._too_long(state, Refusal("context", "the answer filled the window", limit=full))

    def _summed_up(self, state: LoopState, answer: Answer) -> LoopState:
        """Replace the conversation by the summary, or by a fresh session."""
        output, limit = answer.output, self._limit(state)
        text = output.completion.strip() if output.choices else ""
        state = state.said("assistant", text or "(no summary)", **cost(answer.record))
        state, budget = state.but(messages=state.messages[:-1]), budget_text(self.platform.me())
        if text and output.stop_reason != "content_filter":
            for share, full in context.KEPT_AFTER_SUMMARY:
                done = context.summarised(state, text, budget, int(limit * share))
                if self._tokens(done) <= limit * full:
                    return done
        state = state.said("note", "the summary does not help: a fresh session begins")
        return context.fresh_session(state, self.system, self._notebook(limit), budget)

    # ------------------------------------------------------------ tools
    def _tool(self, state: LoopState) -> LoopState:
        """Answer the first call that has no result, or end the turn."""
        answered = self.answerer.next(state)
        if answered is not None:
            state = self.store.save(answered)
            self.store.ended()
            return state
        self.store.drop_requests()
        if state.turn % LOG_EVERY_TURNS == 0:
            self._log(state)
        return self.store.save(state.but(phase="ready"))

    def _log(self, state: LoopState) -> None:
        try:
            write_log(self.store.home, self.name, self.kit.spec.model, state)
        except (OSError, ValueError) as error:
            LOG.warning("the Inspect log was not written: %s", error)


def _warned(state: LoopState, me: Me) -> LoopState:
    """Warn once each: that little is left, and that the last submission is made."""
    if not submissions_used_up(me):
        state = state.but(ends_at=None)  # also where the operator gave more
    elif state.ends_at is None:
        text = filled(text_of("wrap_up"), {"turns": str(WRAP_UP_TURNS)})
        state = told(state.but(ends_at=state.turn + WRAP_UP_TURNS), text.strip())
    little = nearly_used_up(me)
    if state.warned or little is None:
        return state
    text = f"[From the platform] Your budget is nearly used up: {little}."
    return told(state.but(warned=True), text)


def run_language(
    config: AarConfig,
    connect: Callable[[], PlatformClient],
    leaving: threading.Event,
    wanted_file: Path | None = None,
) -> LoopState:
    """Run an AAR to its end, or until `leaving` is set, from the start or from where it was.

    `connect` opens a client of the platform. A pod says in `wanted_file` what is wanted. Raises if
    the AAR cannot continue (model away, key wrong): its state is safe.
    """
    signals = Signals()
    with connect() as platform:
        aar = build(config, platform, signals)
        aar.leaving = leaving
        try:
            with beating(connect, signals, wanted_file):
                return aar.run()
        finally:
            aar.caller.asker.close()


def build(config: AarConfig, platform: PlatformClient, signals: Signals) -> LanguageAar:
    """Build all parts and begin nothing."""
    spec = config.language
    if spec is None:
        raise BadInput(f"{config.name}: no `language` in its config")
    register_scripted()
    price = price_of(spec.model, config.prices)
    asker = Asker(open_model(spec), spec)
    token = config.token_file.read_text(encoding="utf-8").strip()
    store = Store(config.home, cleaner([*asker.secrets, token]))
    sandbox = sandbox_of(config, spec)
    tasks = [
        SeenTask(info, str(sandbox.seen_read_only(config.tasks[name])))
        for name, info in config.infos().items()
    ]
    notes = config.home / "notes"
    seen_notes = sandbox.seen_read_only(notes) if notes in sandbox.read_only else notes
    limits = limits_text(sandbox.limits, sandbox.limits.wall_s)
    trying = TRYING
    if (access := config.students) is not None:
        seen = [sandbox.seen_read_only(path) for path in (access.socket, access.tokens)]
        trying = f"python -m aarlab.students.trying --socket {seen[0]} --tokens {seen[1]}"
    places = places_of(tasks, sandbox.seen_workspace, seen_notes, limits, trying)
    write_notes(notes, places, config.problem)
    devices = devices_of(config)
    backgrounds, keeper = Backgrounds(sandbox), Keeper()
    if config.kept:
        keeper = PlatformKeeper(platform, config.home, sandbox, config.again, backgrounds.alive)
        platform.before_effects(keeper.before_effect)
    kit = Kit(
        config=config,
        spec=spec,
        platform=platform,
        sandbox=sandbox,
        store=store,
        python=sys.executable,
        backgrounds=backgrounds,
        signals=signals,
        keeper=keeper,
        devices=devices,
    )
    tools = (
        *sandbox_tools(devices is not None),
        *platform_tools(spec.forum),
        *served_tools(platform),
    )
    steering = Steering(platform, store.save)
    asker.wait = steering.wait
    return LanguageAar(
        name=config.name,
        system=system_text(config.name, config.direction, spec, tasks, places),
        kit=kit,
        caller=Caller(
            config.name, platform, store, asker, price, tools, steering, store.save, keeper
        ),
        answerer=Answerer(config.name, kit, tools),
        steering=steering,
        forum=spec.forum,
    )


def devices_of(config: AarConfig) -> Devices | None:
    """Return the devices that the AAR's commands may hold; None where the campaign gives none.

    Raises BadInput where devices are named that cannot be found.
    """
    if not config.sandbox_devices:
        return None
    leases, there = Leases(DeviceSettings().device_locks), found(visible_devices())
    return Devices(config.name, leases, there, system_files(device.maker for device in there))


def sandbox_of(config: AarConfig, spec: LanguageSpec) -> SandboxSpec:
    """Return a sandbox with the workspace, public tasks and notes.

    It sees the socket of a student server, if there is one, and none of the platform: the AAR
    reaches the platform through its tools.
    """
    read_only = task_mounts(config.tasks) | student_mounts(config.students)
    if spec.notes:
        read_only[config.home / "notes"] = SEEN
    return SandboxSpec(
        workspace=config.workspace,
        read_only=read_only,
        limits=SandboxLimits(
            wall_s=spec.tool_timeout_s,
            cpu_s=4 * spec.tool_timeout_s,
            memory_mb=config.trial_memory_mb or BASE_MB,
        ),
        uid=config.uid,
        env=ONE_THREAD,
        isolation=sandbox_kind(config.isolation),
    )
