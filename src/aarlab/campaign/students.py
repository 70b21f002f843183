"""The student servers of a campaign: started, or found running, and grants for its AARs.

A server belongs to a device and is shared by what runs on the machine. A campaign on one device
uses the server that is there; only where there is none it starts its own and ends it afterwards.
On several devices it starts one for each, and its AARs take turns among them. On other machines
pods start them, each for its own AARs (campaign.pod).

Not covered: a server of somebody else that ends while the campaign runs. AARs wait for it two
minutes, then they fail and are started again like after any crash.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from aarlab.agents.config import StudentAccess
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec, StudentServerSpec
from aarlab.core.endings import plain_reason
from aarlab.core.errors import AarlabError, BadInput, Unreachable
from aarlab.core.extras import require
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot, RunDir
from aarlab.students.grants import Operator
from aarlab.students.server import running
from aarlab.students.settings import DeviceSettings
from aarlab.students.task_grants import admit, when_it_answers
from aarlab.testbed.tasks.task import load_info, model_at_hand


@dataclass(frozen=True, slots=True)
class Access:
    """What AARs need of their student servers, which are on their machine."""

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    sockets: tuple[Path, ...]
    aars: tuple[str, ...]

    def of(self, aar: str) -> StudentAccess:
        """Return where one AAR finds its server and its tokens."""
        return StudentAccess(socket=self._socket_of(aar), tokens=self._tokens(aar))

    def _socket_of(self, aar: str) -> Path:
        return self.sockets[self.aars.index(aar) % len(self.sockets)]

    def _tokens(self, aar: str) -> Path:
        return self.run.path.absolute() / "students" / aar

    def admit(self, socket: Path, locks: Path) -> None:
        """Make the grants of the AARs of one server; the tokens of earlier grants are void."""
        tasks = {task: self.root.public_task(task).absolute() for task in self.spec.tasks}
        with Operator(socket, locks) as operator:
            for aar in self.aars:
                if self._socket_of(aar) == socket:
                    admit(operator, f"{mark_of(self.run)}/{aar}", tasks, self._tokens(aar))


@dataclass
class StudentChild(Child):
    """A server of the campaign's own. Each start makes its grants again."""

    endless: bool = True
    access: Access | None = None
    socket: Path = Path()
    locks: Path = Path()

    def start(self) -> None:
        super().start()
        if self.access is not None:
            try:
                when_it_answers(partial(self.access.admit, self.socket, self.locks), self._ended)
            except AarlabError as error:
                with self.log.open("a", encoding="utf-8") as log:
                    log.write(f"no grants were made: {error}\n")
                self.stop()  # the next poll sees it ended, and starts it again

    def _ended(self) -> bool:
        return self.handle is None or self.handle.poll() is not None


class Students(NamedTuple):
    """The access to student servers, and the processes of those that the campaign started."""

    access: Access
    children: list[StudentChild]


class Share(NamedTuple):
    """The part of a campaign that one server is for: some of its AARs, on one device of a pod.

    `device` is its place among several devices of the pod; None: the pod has one.
    """

    name: str
    aars: tuple[str, ...]
    device: int | None = None


@contextmanager
def student_server(
    run: RunDir, root: DataRoot, spec: CampaignSpec, share: Share | None = None
) -> Iterator[Students | None]:
    """Yield the student servers of a campaign, or of a share of it, until the end of the block.

    Yields None where the spec wants none. Raises Unreachable if one does not start.
    """
    if spec.student_server is None:
        yield None
        return
    require("testbed")
    locks = DeviceSettings().device_locks
    access, servers = _servers(run, root, spec, share, locks)

    def found() -> Access | None:
        # Which of several devices a running server has is not known here.
        several = len(servers) > 1 or (share is not None and share.device is not None)
        return None if several else _on_a_running_one(access, locks)

    if (known := found()) is None:
        models, said = ",".join(models_of(root, spec)), ""
        children = [_child(server, access, models, locks) for server in servers]
        try:
            for server, child in zip(servers, children, strict=True):
                child.start()
                if child.handle is None or child.handle.poll() is not None:
                    said = f"{server.device} did not start: {plain_reason(child.last_words(3))}"
                    said += f"; see {child.log}"
                    break
            else:
                yield Students(access, children)
                return
        finally:
            for child in children:
                child.stop()
        if (known := found()) is None:  # else another pod of this machine was first
            raise Unreachable(f"the student server on {said}")
    when_it_answers(partial(known.admit, known.sockets[0], locks))
    yield Students(known, [])


class _Server(NamedTuple):
    name: str
    device: str
    socket: Path


def _servers(
    run: RunDir, root: DataRoot, spec: CampaignSpec, share: Share | None, locks: Path
) -> tuple[Access, list[_Server]]:
    """Return the servers of a campaign, or the one of a share of it, and the access to them."""
    assert spec.student_server is not None
    own = locks / "campaigns" / mark_of(run)
    if share is None:
        aars = tuple(aar.name for aar in spec.aars)
        servers = []
        for number, device in enumerate(devices_of(spec.student_server)):
            end = f"-{number}" if number else ""
            socket = own.with_name(own.name + end) / "socket"
            servers.append(_Server(f"students{end}", device, socket))
    else:
        aars, device = share.aars, spec.student_server.device
        name = device if share.device is None else f"{device}:{share.device}"
        servers = [_Server(f"students-{share.name}", name, own / share.name / "socket")]
    return Access(run, root, spec, tuple(one.socket for one in servers), aars), servers


def _on_a_running_one(access: Access, locks: Path) -> Access | None:
    """Return the access to a server of this machine that has the device, if there is one."""
    assert access.spec.student_server is not None
    kind = access.spec.student_server.device
    for note in running(locks):
        if kind == "auto" or note["device"].startswith(kind):
            return replace(access, sockets=(Path(note["socket"]),))
    return None


def _child(server: _Server, access: Access, models: str, locks: Path) -> StudentChild:
    argv = [sys.executable, "-m", "aarlab.students", "--device", server.device]
    argv += ["--socket", str(server.socket), "--models", models]
    argv += ["--root", str(access.root.path.absolute())]  # a node has no AARLAB_HOME of its own
    log = access.run.path / f"{server.name}.log"
    return StudentChild(server.name, argv, log, access=access, socket=server.socket, locks=locks)


def devices_of(wanted: StudentServerSpec, count: Callable[[], int] | None = None) -> list[str]:
    """Return the device of each server by name.

    Raises BadInput where there are fewer devices than are wanted, or none for `all`.
    """
    if wanted.devices == 1:
        return [wanted.device]
    there = (count or n_cuda)()
    kind = "cpu" if wanted.device == "cpu" or (wanted.device == "auto" and not there) else "cuda"
    if wanted.devices == "all":
        if kind == "cpu":
            raise BadInput("student_server: devices: all, but torch finds no CUDA device")
        return [f"cuda:{number}" for number in range(there)]
    if kind == "cuda" and there < wanted.devices:
        raise BadInput(f"student_server: devices: {wanted.devices}, but torch finds {there}")
    return [f"{kind}:{number}" for number in range(wanted.devices)]


@cache
def n_cuda() -> int:
    """Count CUDA devices in another process: this one never loads torch."""
    words = [sys.executable, "-c", "import torch; print(torch.cuda.device_count())"]
    done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
    said = done.stdout.strip()
    return int(said) if done.returncode == 0 and said.isdigit() else 0


def models_of(root: DataRoot, spec: CampaignSpec) -> list[str]:
    """Return the strong models that students of the campaign's tasks train."""
    found = {model_at_hand(load_info(root.public_task(task))) for task in spec.tasks}
    return sorted(model for model in found if model)


def mark_of(run: RunDir) -> str:
    """Return a name of the run's folder that differs from those of other campaigns."""
    return sha256_hex(str(run.path.absolute()).encode())[:12]
