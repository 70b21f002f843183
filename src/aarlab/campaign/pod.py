"""`python -m aarlab.campaign.pod POD`: several AARs on one machine, as one job of an engine.

The pod starts each AAR as a process, starts it again with back-off when it crashes, and reports how
it ended. It asks the platform what the operator wants of its AARs, in one long poll for all, and
starts a student server for each of its devices.

Campaign and pod talk through two files of the pod's folder: `orders` says which AARs are to run,
`report` what became of them. One pod process at a time writes there: each draws a number, and an
older one ends as soon as it sees a higher number. POD is a file on the shared folder; or it is
JSON, where no folder is shared, and a courier carries the two files (campaign.node).

Covered: SIGKILL of an AAR, of the pod (its AARs end with it, since they are its main thread's
children), of the node; a second copy of the pod that an engine starts while the first lives;
processes that an AAR left behind, which end with the pod. Where it uses a student server of others
and that ends, the pod ends with an error; started again, it starts one of its own.
Not covered: a pod that is halted between its look at the number and the start of an AAR. The AAR
that it starts takes over once and ends with the pod; nothing is written twice (core.supervision).
"""

import ctypes
import json
import logging
import os
import signal
import sys
import threading
import time
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, ValidationError

from aarlab.agents.config import AarConfig
from aarlab.agents.state import LIFE, Claim, begun, load_state
from aarlab.campaign.node import Boot, Courier, joined
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.students import Share, student_server
from aarlab.client.platform import PodClient
from aarlab.client.transport import Address
from aarlab.core.errors import AarlabError, Superseded, Unreachable
from aarlab.core.files import write_atomic
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.logs import log_to_stderr
from aarlab.core.research_time import HEARTBEAT_S
from aarlab.core.supervision import SUPERSEDED
from aarlab.core.wire import PodPoll, Wanted
from aarlab.core.wire_base import Strict
from aarlab.executors.base import LEFT
from aarlab.executors.local import LocalExecutor
from aarlab.sandbox.reaper import PR_SET_CHILD_SUBREAPER, end_descendants
from aarlab.students.server import running
from aarlab.students.settings import DeviceSettings

LOG = logging.getLogger("aarlab.pod")
ROUND_S, ORDERS_S, AGAIN_S = 0.1, 1.0, 2.0
END_S = 10.0
BORROWED_S = 30.0  # in which its owner may start it again

Content = TypeVar("Content", bound=Strict)
State = Literal["running", "waiting", "finished", "failed"]


class PodConfig(Strict):
    """Where a pod's AARs are and how it reaches the platform. The key is in a file of its own."""

    name: str
    folder: Path
    run: Path
    root: Path
    aars: dict[str, Path]  # by name, the config of each
    key_file: Path
    socket: Path
    url: str | None = None
    ca: Path | None = None
    devices: int = 0  # student servers that it starts
    kept: bool = False  # on the platform: no folder is shared


class Orders(Strict):
    """AARs that are to run, each with the number of times that it was asked for."""

    runs: dict[str, int] = Field(default={})


class AarReport(Strict):
    """What became of an AAR that was asked for `run` times. `deaths` are counted over all runs."""

    run: int
    state: State
    crashes: int = 0
    deaths: int = 0
    code: int | None = None
    why: str = ""

    @property
    def over(self) -> bool:
        return self.state in ("finished", "failed")


class Report(Strict):
    """What became of a pod's AARs, as its process of this number has it."""

    pod: int = 0
    aars: dict[str, AarReport] = Field(default={})


def orders_file(folder: Path) -> Path:
    return folder / "orders.json"


def report_file(folder: Path) -> Path:
    return folder / "report.json"


@dataclass
class Member:
    """One AAR of the pod: its process and what is reported of it."""

    child: Child
    home: Path
    report: AarReport
    started_at: float = 0.0

    def start(self) -> None:
        self.started_at = time.time()
        self.child.start()

    @property
    def running(self) -> bool:
        handle = self.child.handle
        return handle is not None and handle.poll() is None

    @property
    def life(self) -> int:
        """Return the life that its living process has begun; 0 if there is none."""
        place = self.home / LIFE
        with suppress(OSError, ValueError):
            if self.running and place.stat().st_mtime >= self.started_at:
                return int(place.read_bytes())
        return 0

    def look(self) -> None:
        """Start the process again where that is due; note what happened in `report`."""
        event = self.child.poll()
        if event is None:
            return
        LOG.info("%s %s %s", self.child.name, event, self.child.died_of)
        if event == "restarted":
            self.started_at = time.time()
        states: dict[str, State] = {"crashed": "waiting", "restarted": "running"}
        ended, died = self.child.ended, event in ("crashed", "failed")
        self.report = self.report.model_copy(
            update={
                "state": states.get(event, event),
                "crashes": self.child.crashes,
                "deaths": self.report.deaths + died,
                "code": None if ended is None else ended.code,
                "why": "" if ended is None else ended.why,
            }
        )


@dataclass
class Pod:
    """`run` returns the exit code of the pod, once its AARs are over or it is told to end."""

    config: PodConfig
    claim: Claim
    members: dict[str, Member] = field(default_factory=dict)
    beside: list[Child] = field(default_factory=list)  # student servers of its own
    borrowed: list[Path] = field(default_factory=list)  # sockets of student servers of others
    told: int = 0  # the last signal
    courier: Courier | None = None
    _reported: Report | None = None
    _orders_at: float = 0.0
    _complete_at: float = field(default_factory=time.monotonic)

    def run(self) -> int:
        asking = threading.Thread(target=self._ask, daemon=True)
        asking.start()
        noticed = False
        while True:
            self.claim.check()
            if self.courier is not None:
                self.courier.check()
            if self.told == signal.SIGTERM:
                self._end()
                return 128 + signal.SIGTERM
            if self.told == signal.SIGUSR1:
                if not noticed:
                    noticed = self._pass_on_notice()
                if not any(member.running for member in self.members.values()):
                    return LEFT
            else:
                self._take_orders()
                for member in self.members.values():
                    member.look()
                for server in self.beside:
                    server.poll()
                self._tell()
                if self.members and all(m.report.over for m in self.members.values()):
                    return 0
            time.sleep(ROUND_S)

    def _take_orders(self) -> None:
        """Start the AARs that were asked for more often than they were started."""
        if time.monotonic() - self._orders_at < ORDERS_S:
            return
        self._orders_at = time.monotonic()
        self._check_borrowed()
        orders = read(orders_file(self.config.folder), Orders) or Orders()
        before = (read(report_file(self.config.folder), Report) or Report()).aars
        for name, run in orders.runs.items():
            member, known = self.members.get(name), before.get(name)
            if member is None:
                if name not in self.config.aars:
                    continue
                member = self.members[name] = self._member(name, run, known)
                if not member.report.over:
                    member.start()
            elif run > member.report.run and not member.running:
                deaths = member.report.deaths
                member.child.argv = self._argv(name, run)
                member.report = AarReport(run=run, state="running", deaths=deaths)
                member.started_at = time.time()
                member.child.again()

    def _check_borrowed(self) -> None:
        """Raise Unreachable once a student server of others has been gone for a while."""
        if not self.borrowed:
            return
        here = {Path(note.get("socket", "")) for note in running(DeviceSettings().device_locks)}
        if here.issuperset(self.borrowed):
            self._complete_at = time.monotonic()
        elif time.monotonic() - self._complete_at > BORROWED_S:
            raise Unreachable("a student server of others, which the pod used, has ended")

    def _member(self, name: str, run: int, known: AarReport | None) -> Member:
        """Return an AAR as an earlier process of this pod left it."""
        config = self.config.aars[name]
        child = Child(
            name, self._argv(name, run), config.parent / "aar.log", executor=LocalExecutor()
        )
        deaths = 0 if known is None else known.deaths
        report = AarReport(run=run, state="running", deaths=deaths)
        if known is not None and known.run == run and known.over:
            report = known
            child.finished, child.failed = known.state == "finished", known.state == "failed"
        elif not self.config.kept and load_state(config.parent / "state.json").finished:
            report = AarReport(run=run, state="finished", deaths=deaths, code=0)
            child.finished = True
        return Member(child, config.parent, report)

    def _argv(self, name: str, run: int) -> list[str]:
        """Return an AAR's command. One that is asked for again may have ended on any machine."""
        told, again = str(_told_file(self.config.folder, name)), self.config.kept and run > 1
        config = str(self.config.aars[name])
        return [sys.executable, "-m", "aarlab.agents", config, told, *["again"] * again]

    def _tell(self) -> None:
        """Write the report if it changed. Raises Superseded if a newer copy of the pod writes."""
        now = Report(pod=self.claim.life, aars={n: m.report for n, m in self.members.items()})
        if now != self._reported:
            with self.claim.held():
                text = now.model_dump_json(indent=1) + "\n"
                write_atomic(report_file(self.config.folder), text, ready=self.claim.check)
            self._reported = now

    def _pass_on_notice(self) -> bool:
        for member in self.members.values():
            if member.running and (pid := _pid(member.child)):
                os.kill(pid, signal.SIGUSR1)
        return True

    def _end(self) -> None:
        """End all AARs side by side: SIGTERM, then SIGKILL."""
        for number, wait_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
            for member in self.members.values():
                if member.running and (pid := _pid(member.child)):
                    os.kill(pid, number)
            until = time.monotonic() + wait_s
            while any(m.running for m in self.members.values()) and time.monotonic() < until:
                time.sleep(ROUND_S)

    # ------------------------------------------------------------ the platform
    def _ask(self) -> None:
        """Give signs of life for the AARs and leave in files what is wanted of them."""
        config = self.config
        key = config.key_file.read_text(encoding="utf-8").strip()
        known: dict[str, Wanted] = {}
        with PodClient(Address(config.url or config.socket, config.ca), key) as platform:
            while True:
                lives = {name: member.life for name, member in dict(self.members).items()}
                aars = dict.fromkeys(config.aars, 0) | lives
                begun = all(lives[n] for n, m in dict(self.members).items() if m.running)
                wait_s = HEARTBEAT_S if begun else 1.0
                try:
                    answer = platform.poll(PodPoll(aars=aars, known=known, wait_s=wait_s))
                except AarlabError as error:
                    LOG.warning("no sign of life reached the platform: %s", error)
                    time.sleep(AGAIN_S)
                    continue
                for name, wanted in answer.wanted.items():
                    if known.get(name) != wanted:
                        write_atomic(_told_file(config.folder, name), wanted + "\n")
                known = answer.wanted
                if answer.superseded:  # such an AAR ends at its next step
                    LOG.warning("newer processes have begun of %s", ", ".join(answer.superseded))
                    time.sleep(AGAIN_S)


def _told_file(folder: Path, aar: str) -> Path:
    return folder / "told" / aar


def _pid(child: Child) -> int | None:
    word = "" if child.handle is None else child.handle.id.removeprefix("pid ")
    return int(word) if word.isdigit() else None


def read(path: Path, kind: type[Content]) -> Content | None:
    """Return what a file of a pod's folder says, or None while there is none."""
    try:
        return kind.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return None


def main(argv: list[str]) -> int:
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    courier: Courier | None = None
    try:
        config, courier = _opened(argv[0])
        (config.folder / "told").mkdir(parents=True, exist_ok=True)
        pod = Pod(config, begun(config.folder), courier=courier)
        for number in (signal.SIGTERM, signal.SIGUSR1):
            signal.signal(number, lambda told, _frame: setattr(pod, "told", told))
        with ExitStack() as opened:
            _serve_students(pod, opened)
            if courier is None:
                return pod.run()
            courier.start()
            code = pod.run()
            courier.finish()
            return code
    except Superseded as error:
        LOG.error("the pod stopped: %s", error)
        return SUPERSEDED
    except (AarlabError, ValidationError, OSError) as error:
        LOG.exception("the pod stopped")
        if courier is not None:
            courier.finish(str(error))
        return 1
    finally:
        end_descendants()


def _opened(given: str) -> tuple[PodConfig, Courier | None]:
    """Return the pod's config, and what carries its files where no folder is shared."""
    if not given.startswith("{"):
        return PodConfig.model_validate_json(Path(given).read_bytes()), None
    boot = Boot.model_validate_json(given)
    run, courier = joined(boot)
    folder = run.pod(boot.name)
    config = PodConfig(
        name=boot.name,
        folder=folder,
        run=run.path,
        root=boot.root,
        aars={name: run.aar(name) / "aar.json" for name in boot.aars},
        key_file=folder / "key",
        socket=boot.socket or run.socket,
        url=boot.url,
        ca=run.tls / "ca.pem" if boot.ca else None,
        devices=boot.devices,
        kept=True,
    )
    return config, courier


def _serve_students(pod: Pod, opened: ExitStack) -> None:
    """Start a student server for each device, and write into its AARs' configs where it is."""
    config = pod.config
    if not config.devices:
        return
    run = RunDir(config.run)
    root = DataRoot(config.root, pinned=run.task_versions())
    spec = CampaignSpec.model_validate(json.loads(run.spec.read_text("utf-8"))["campaign"])
    for number in range(config.devices):
        names = sorted(config.aars)[number :: config.devices]
        device = number if config.devices > 1 else None
        share = Share(f"{config.name}-{number}", tuple(names), device)
        students = opened.enter_context(student_server(run, root, spec, share))
        assert students is not None
        if not students.children:
            pod.borrowed.extend(students.access.sockets)
        else:
            pod.beside.extend(students.children)
        for name in names:
            place = config.aars[name]
            given = AarConfig.model_validate_json(place.read_bytes())
            given = given.model_copy(update={"students": students.access.of(name)})
            write_atomic(place, given.model_dump_json(indent=1) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
