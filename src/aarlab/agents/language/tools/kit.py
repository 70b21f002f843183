"""Tools of a language-model AAR: what they are and what they work with.

A tool is a name, typed arguments and a function. Errors of its use are answers. It works with the
sandbox, the platform and the AAR's files; time on the device is booked. Commands that run on while
the model thinks have a thread each, and their output is in a file of the workspace.
"""

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

from inspect_ai.tool import ToolInfo, ToolParams
from inspect_ai.util import JSONSchema
from pydantic import BaseModel, ValidationError

from aarlab.agents.config import AarConfig
from aarlab.agents.keeping import Keeper
from aarlab.agents.language.state import LoopState, Running, Store
from aarlab.agents.platform_link import Signals
from aarlab.agents.specs import LanguageSpec
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError, BadInput, BudgetExhausted, Conflict, Superseded
from aarlab.core.platform_tools import Input
from aarlab.core.wire import Spend
from aarlab.sandbox.devices import Device, with_device
from aarlab.sandbox.leases import Lease, Leases
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxSpec
from aarlab.sandbox.workspace import copy_in

MAX_AT_ONCE = 4
FOLDER = "background"
JOIN_S = 15.0


@dataclass(frozen=True)
class Devices:
    """The devices of this machine that commands of one AAR may hold, one at a time for each."""

    client: str
    leases: Leases
    there: tuple[Device, ...]
    system: Mapping[Path, str]

    def run(
        self,
        sandbox: SandboxSpec,
        argv: Sequence[str],
        kind: str,
        cancel: threading.Event,
        stdin: bytes | None = None,
        begun: Callable[[], None] = lambda: None,
    ) -> "Held":
        """Wait for a device, then run a command that has it alone; `begun` is called in between.

        Raises WaitEnded when `cancel` is set before its turn came.
        """
        with self.leases.lease(self.client, kind, self.there, cancel.is_set) as lease:
            begun()
            spec = with_device(sandbox, lease.device.nodes, self.system)
            done = run(spec, argv, stdin, _Either(cancel, lease), ask=lease.asked_back)
        return Held(done, lease.seconds, lease.asked_back.is_set())


class Held(NamedTuple):
    """How a command ended that held a device, for how long, and whether it was asked back."""

    done: Finished
    seconds: float
    asked_back: bool

    def how_it_ended(self) -> str:
        said = how_it_ended(self.done)
        if self.asked_back:
            return f"{said}: a foreground command had waited for the device"
        return said


@dataclass(frozen=True)
class _Either:
    cancel: threading.Event
    lease: Lease

    def is_set(self) -> bool:
        return self.cancel.is_set() or self.lease.overdue()


@dataclass
class _Job:
    begun: float | None  # None: it waits for a device
    cancel: threading.Event = field(default_factory=threading.Event)
    thread: threading.Thread | None = None
    seconds: float | None = None
    ended: str = ""

    def so_far_s(self) -> float:
        return 0.0 if self.begun is None else time.monotonic() - self.begun

    def begin(self) -> None:
        self.begun = time.monotonic()


class Backgrounds:
    """Those of this process; what ran in an earlier one ended with it."""

    def __init__(self, sandbox: SandboxSpec) -> None:
        self._sandbox = sandbox
        self._jobs: dict[str, _Job] = {}

    def start(
        self, name: str, command: str, timeout_s: float, devices: Devices | None = None
    ) -> None:
        """Start a command in the background; with `devices` it first waits for one of them.

        Raises BadInput when too many run.
        """
        if len(self._alive()) >= MAX_AT_ONCE:
            raise BadInput(f"{MAX_AT_ONCE} background commands run already: kill one first")
        job = _Job(time.monotonic() if devices is None else None)
        limits = replace(self._sandbox.limits, wall_s=timeout_s, cpu_s=timeout_s * 8)
        spec = replace(self._sandbox, limits=limits)
        script = f'mkdir -p {FOLDER} && exec >{FOLDER}/{name}.log 2>&1 && exec /bin/bash -c "$0"'
        argv = ["/bin/bash", "-c", script, command]
        work = (job, spec, argv, devices)
        job.thread = threading.Thread(target=_work, args=work, daemon=True)
        self._jobs[name] = job
        job.thread.start()

    def seconds(self, name: str) -> float:
        """Return the wall seconds so far, without a wait for a device.

        They are 0 for a command of an earlier process.
        """
        job = self._jobs.get(name)
        if job is None:
            return 0.0
        return job.so_far_s() if job.seconds is None else job.seconds

    def ended(self, name: str) -> str:
        """Return how the command ended; empty while it runs."""
        job = self._jobs.get(name)
        return "it ended when the AAR's process was restarted" if job is None else job.ended

    def kill(self, name: str) -> None:
        job = self._jobs.get(name)
        if job is not None and job.thread is not None:
            job.cancel.set()
            job.thread.join(JOIN_S)

    def kill_all(self) -> None:
        for name in self._alive():
            self._jobs[name].cancel.set()
        for name in list(self._jobs):
            self.kill(name)

    def alive(self) -> bool:
        """Return whether a command runs."""
        return bool(self._alive())

    def _alive(self) -> list[str]:
        return [name for name, job in self._jobs.items() if not job.ended]


def _work(job: _Job, spec: SandboxSpec, argv: list[str], devices: Devices | None) -> None:
    try:
        if devices is not None:
            held = devices.run(spec, argv, "background", job.cancel, None, job.begin)
            job.seconds, job.ended = held.seconds, held.how_it_ended()
            return
        done = run(spec, argv, None, job.cancel)
        job.seconds, job.ended = done.wall_s, how_it_ended(done)
    except (AarlabError, OSError) as error:
        job.seconds, job.ended = job.so_far_s(), f"it could not run: {error}"


def how_it_ended(done: Finished) -> str:
    if done.killed_by == "cancel":
        return f"killed after {done.wall_s:.1f} s"
    if done.killed_by is not None:
        return f"ended by the {done.killed_by} limit after {done.wall_s:.1f} s"
    return f"exit code {done.returncode} after {done.wall_s:.1f} s"


LOG = logging.getLogger("aarlab.agents")
FIRST_LOOK_S, LOOK_EVERY_S = 1.0, 2.0


@dataclass
class Kit:
    config: AarConfig
    spec: LanguageSpec
    platform: PlatformClient
    sandbox: SandboxSpec
    store: Store
    python: str
    backgrounds: Backgrounds
    signals: Signals = field(default_factory=Signals)
    running: Running | None = field(default=None)
    keeper: Keeper = field(default_factory=Keeper)
    devices: Devices | None = None

    def run(
        self, argv: Sequence[str], key: str, stdin: bytes | None = None, timeout_s: float = 0.0
    ) -> Finished:
        """Run one command in the sandbox; ends early when the operator stops the AAR.

        Its seconds are booked under `key`.
        """
        limits = replace(self.sandbox.limits, wall_s=timeout_s or self.spec.tool_timeout_s)
        with Attendance(self) as attendance:
            self.keeper.touch()
            done = run(replace(self.sandbox, limits=limits), argv, stdin, attendance.cancel)
        self.book(done.wall_s, key, argv[-1][:80])
        return done

    def glance(self, argv: Sequence[str]) -> Finished:
        """Run a quick look that is not booked."""
        limits = replace(self.sandbox.limits, wall_s=60.0)
        return run(replace(self.sandbox, limits=limits), argv)

    def leasable(self) -> Devices:
        """Return the devices that commands may hold. Raises BadInput where there are none."""
        if self.devices is None:
            raise BadInput("this campaign gives sandboxes no device: leave `device` out")
        return self.devices

    def run_on_device(
        self, argv: Sequence[str], key: str, stdin: bytes | None, timeout_s: float
    ) -> Held:
        """Run one command that holds a device, once it gets one, as `run` does.

        What is booked are the seconds for which it held the device.
        """
        devices, limits = self.leasable(), replace(self.sandbox.limits, wall_s=timeout_s)
        with Attendance(self) as attendance:
            self.keeper.touch()
            sandbox, cancel = replace(self.sandbox, limits=limits), attendance.cancel
            held = devices.run(sandbox, argv, "foreground", cancel, stdin, self._begun)
        self.book(held.seconds, key, argv[-1][:80])
        return held

    def _begun(self) -> None:
        """Note that the command at work begins only now: it has waited for a device."""
        if self.running is not None:
            now = time.time()
            self.running = self.running.model_copy(update={"started_s": now, "seen_s": now})
            self.store.started(self.running)

    def put(self, files: Mapping[str, bytes]) -> None:
        """Write files of the workspace, by path; raises as `copy_in` does."""
        self.keeper.touch()
        copy_in(self.sandbox, files)

    def book(self, seconds: float, key: str, note: str) -> None:
        """Book device seconds, once per key."""
        spend = Spend(kind="device_s", amount=max(seconds, 0.0), note=note)
        try:
            self.platform.spend(spend, key=f"{key}-device")
        except (Conflict, BudgetExhausted) as error:
            LOG.info("device seconds of %s: %s", key, error)


class Attendance:
    """Looks after a command that takes long: notes that it lives, and ends it on `stop`.

    It is also ended when a newer process of the AAR has begun.
    """

    def __init__(self, kit: Kit) -> None:
        self._kit, self.cancel = kit, threading.Event()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)

    def __enter__(self) -> "Attendance":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        with self._kit.signals.setting(self.cancel):
            self._look_on()

    def _look_on(self) -> None:
        pause_s = FIRST_LOOK_S
        while not self._done.wait(pause_s):
            pause_s = LOOK_EVERY_S
            try:
                if self._kit.platform.life.over.is_set():
                    self.cancel.set()
                elif self._kit.running is not None:
                    self._kit.store.still_running(self._kit.running)
            except Superseded:
                self.cancel.set()
            except (AarlabError, OSError) as error:
                LOG.warning("while a command ran: %s", error)


Change = Callable[[LoopState], LoopState]


Args = Input


class Place(NamedTuple):
    """Where in its life the AAR makes this call. `key` is the same when the call is repeated."""

    key: str
    state: LoopState


class Result(NamedTuple):
    """What the model is shown, and what changes in the AAR's own state."""

    text: str
    change: Change | None = None


class WrongCall(Exception):
    """The call itself was malformed; the message says how to make it right."""


@dataclass(frozen=True, slots=True)
class Tool:
    """A tool of the model.

    `repeatable`: a second run after a crash does no harm, so it is run again and not reported as
    interrupted. Platform writes are, by their idempotency key.

    `schema` is that of the arguments where the server checks them.
    """

    name: str
    about: str
    args: type[BaseModel]
    run: Callable[[Kit, Any, Place], Result]
    repeatable: bool = False
    schema: Mapping[str, Any] | None = None

    def info(self) -> ToolInfo:
        schema = self.schema or self.args.model_json_schema()
        properties = {
            name: JSONSchema.model_validate(_plain(field))
            for name, field in schema.get("properties", {}).items()
        }
        params = ToolParams(properties=properties, required=schema.get("required", []))
        return ToolInfo(name=self.name, description=self.about, parameters=params)

    def call(self, kit: Kit, arguments: dict[str, Any], place: Place) -> Result:
        """Run the tool. Raises WrongCall for arguments that do not fit, or the tool's error."""
        try:
            args = self.args.model_validate(arguments)
        except ValidationError as error:
            raise WrongCall(f"{self.name}: {_explained(error)}") from error
        return self.run(kit, args, place)


def find_tool(tools: Sequence[Tool], name: str) -> Tool:
    """Return a tool by its name. Raises WrongCall naming the tools there are."""
    for tool in tools:
        if tool.name == name:
            return tool
    raise WrongCall(f"there is no tool {name!r}; there are {', '.join(t.name for t in tools)}")


def _plain(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _plain(value) for key, value in schema.items() if key != "title"}
    return [_plain(item) for item in schema] if isinstance(schema, list) else schema


def _explained(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False):
        where = ".".join(map(str, item["loc"])) or "arguments"
        lines.append(f"{where}: {item['msg']}")
    return "; ".join(lines)
