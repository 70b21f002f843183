"""Puts one language-model AAR together from its config and lets it live."""

import sys
from collections.abc import Callable, Sequence

from aarlab.agents.config import AarConfig
from aarlab.agents.language.answering import Answerer
from aarlab.agents.language.calling import Caller
from aarlab.agents.language.loop import LanguageAar
from aarlab.agents.language.models import Asker, open_model
from aarlab.agents.language.notes_files import SEEN, write_notes
from aarlab.agents.language.prompts import SeenTask, limits_text, places_of, system_text
from aarlab.agents.language.redaction import cleaner
from aarlab.agents.language.scripted import register_scripted
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.language.state import LoopState
from aarlab.agents.language.steering import Steering
from aarlab.agents.language.store import Store
from aarlab.agents.language.tools.background import Backgrounds
from aarlab.agents.language.tools.kit import Kit
from aarlab.agents.language.tools.platform import platform_tools
from aarlab.agents.language.tools.sandboxed import SANDBOX_TOOLS
from aarlab.agents.method_run import BASE_MB, ONE_THREAD, sandbox_kind, task_mounts
from aarlab.agents.platform_link import beating
from aarlab.agents.prices import price_of
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput
from aarlab.sandbox.spec import SandboxLimits, SandboxSpec


def run_language(config: AarConfig, connect: Callable[[], PlatformClient]) -> LoopState:
    """From the start or from where it was, to its end. `connect` opens a client of the platform;
    raises what keeps the AAR from going on (model away, key wrong): its state is safe."""
    with connect() as platform, connect() as second:
        aar = build(config, platform, second)
        try:
            with beating(connect):
                return aar.run()
        finally:
            aar.caller.asker.close()


def build(config: AarConfig, platform: PlatformClient, second: PlatformClient) -> LanguageAar:
    """All parts, nothing begun. `second` is for the thread that looks on while a tool works."""
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
    places = _places(config, sandbox, tasks)
    write_notes(config.home / "notes", places)
    kit = Kit(
        config=config,
        spec=spec,
        platform=platform,
        sandbox=sandbox,
        store=store,
        python=sys.executable,
        backgrounds=Backgrounds(sandbox),
        wanted=lambda: _wanted(second),
    )
    tools = (*SANDBOX_TOOLS, *platform_tools(spec.forum))
    steering = Steering(platform, store.save)
    asker.wait = steering.wait
    return LanguageAar(
        name=config.name,
        system=system_text(config.name, config.direction, spec, tasks, places),
        kit=kit,
        caller=Caller(config.name, platform, store, asker, price, tools, steering, store.save),
        answerer=Answerer(config.name, kit, tools),
        steering=steering,
        forum=spec.forum,
    )


def sandbox_of(config: AarConfig, spec: LanguageSpec) -> SandboxSpec:
    """Workspace, public tasks, notes. No socket: the AAR reaches the platform through its tools."""
    read_only = task_mounts(config.tasks)
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


def _places(config: AarConfig, sandbox: SandboxSpec, tasks: Sequence[SeenTask]) -> dict[str, str]:
    notes = config.home / "notes"
    seen_notes = sandbox.seen_read_only(notes) if notes in sandbox.read_only else notes
    limits = limits_text(sandbox.limits, sandbox.limits.wall_s)
    return places_of(tasks, sandbox.seen_workspace, seen_notes, limits)


def _wanted(second: PlatformClient) -> str:
    try:
        return second.me().wanted
    except AarlabError:
        return "run"
