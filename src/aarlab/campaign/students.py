"""The student servers of a campaign: started, or found running, and grants for its AARs.

A server belongs to a device and is shared by what runs on the machine. A campaign on one device
uses the server that is there; only where there is none it starts its own and ends it afterwards.
On several devices it starts one for each, and its AARs take turns among them. AARs that run on
other machines start theirs themselves (agents.student_node).

Not covered: a server of somebody else that ends while the campaign runs. AARs wait for it two
minutes, then they fail and are started again like after any crash.
"""

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

from aarlab.agents.config import StudentAccess, StudentNode
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
    """What a campaign's AARs need of its student servers.

    `sockets` are those on the campaign's machine. Without any, each AAR has a server on its node.
    """

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    sockets: tuple[Path, ...]

    @property
    def socket(self) -> Path:
        """Return the socket of the first server."""
        return self.sockets[0]

    def of(self, aar: str) -> StudentAccess | StudentNode:
        """Return where one AAR finds its server and its tokens."""
        if not self.sockets:
            assert self.spec.student_server is not None
            return StudentNode(
                device=self.spec.student_server.device,
                models=tuple(models_of(self.root, self.spec)),
                mark=sha256_hex(f"{mark_of(self.run)}/{aar}".encode())[:12],
            )
        return StudentAccess(socket=self._socket_of(aar), tokens=self._tokens(aar))

    def _socket_of(self, aar: str) -> Path:
        number = [each.name for each in self.spec.aars].index(aar)
        return self.sockets[number % len(self.sockets)]

    def _tokens(self, aar: str) -> Path:
        return self.run.path.absolute() / "students" / aar

    def admit(self, socket: Path, locks: Path) -> None:
        """Make the grants of the AARs of one server; the tokens of earlier grants are void."""
        tasks = {task: self.root.public_task(task).absolute() for task in self.spec.tasks}
        with Operator(socket, locks) as operator:
            for aar in self.spec.aars:
                if self._socket_of(aar.name) == socket:
                    name = f"{mark_of(self.run)}/{aar.name}"
                    admit(operator, name, tasks, self._tokens(aar.name))


@dataclass
class StudentChild(Child):
    """A server of the campaign's own. Each start makes its grants again."""

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


@contextmanager
def student_server(run: RunDir, root: DataRoot, spec: CampaignSpec) -> Iterator[Students | None]:
    """Yield the student servers of a campaign, as long as the campaign runs.

    Yields None where the spec wants none. Raises Unreachable if one does not start.
    """
    wanted = spec.student_server
    if wanted is None:
        yield None
        return
    require("testbed")
    if spec.executor.name != "local":
        yield Students(Access(run, root, spec, ()), [])
        return
    locks = DeviceSettings().device_locks
    if wanted.devices == 1:
        for note in running(locks):
            if "socket" in note and (
                wanted.device == "auto" or note["device"].startswith(wanted.device)
            ):
                access = Access(run, root, spec, (Path(note["socket"]),))
                when_it_answers(partial(access.admit, access.socket, locks))
                yield Students(access, [])
                return
    names = devices_of(wanted)
    folders = [mark_of(run) + (f"-{number}" if number else "") for number in range(len(names))]
    sockets = tuple(locks / "campaigns" / folder / "socket" for folder in folders)
    access = Access(run, root, spec, sockets)
    models = ",".join(models_of(root, spec))
    children = list[StudentChild]()
    try:
        for number, (device, socket) in enumerate(zip(names, sockets, strict=True)):
            name = f"students-{number}" if number else "students"
            argv = [sys.executable, "-m", "aarlab.students", "--device", device]
            argv += ["--socket", str(socket), "--models", models]
            log = run.path / f"{name}.log"
            child = StudentChild(name, argv, log, access=access, socket=socket, locks=locks)
            children.append(child)
            child.start()
            if child.handle is None or child.handle.poll() is not None:
                raise Unreachable(
                    f"the student server on {device} did not start: "
                    f"{plain_reason(child.last_words(3))}; see {child.log}"
                )
        yield Students(access, children)
    finally:
        for child in children:
            child.stop()


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
