"""The student server of a campaign: started, or found running, and one grant for each AAR and task.

A server belongs to a device and is shared by what runs on the machine. A campaign uses the one that
is there; only where there is none it starts its own and ends it afterwards.

Not covered: a server of somebody else that ends while the campaign runs. AARs wait for it two
minutes, then they fail and are started again like after any crash.
"""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.agents.config import StudentAccess
from aarlab.campaign.processes import Child
from aarlab.campaign.spec import CampaignSpec
from aarlab.core.endings import plain_reason
from aarlab.core.errors import AarlabError, NotFound, Unreachable
from aarlab.core.extras import require
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import DataRoot, RunDir
from aarlab.students.grants import Grant, Operator
from aarlab.students.server import running
from aarlab.students.settings import DeviceSettings, visible_device
from aarlab.testbed.tasks.task import load_info, model_at_hand, open_public
from aarlab.testbed.tasks.train_task import student_settings

START_S = 120.0


@dataclass(frozen=True, slots=True)
class Access:
    """What a campaign's AARs need of a student server, on the machine of the campaign."""

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    socket: Path
    aars: tuple[str, ...]

    def of(self, aar: str) -> StudentAccess:
        """Return where one AAR finds the server and its tokens."""
        return StudentAccess(socket=self.socket, tokens=self._tokens(aar))

    def _tokens(self, aar: str) -> Path:
        return self.run.path.absolute() / "students" / aar

    def admit(self, locks: Path) -> None:
        """Make a grant for each AAR and task; the tokens of earlier grants are void.

        A token's file is open to the sandbox of its AAR, whose uid is not known to it.
        """
        with Operator(self.socket, locks) as operator:
            for task in self.spec.tasks:
                folder = self.root.public_task(task).absolute()
                public = open_public(folder)
                facts: dict[str, Any] = {
                    "model": model_at_hand(public.info) or "",
                    "features": [str(path) for path in sorted((folder / "features").glob("*.npz"))],
                    "reads_texts": True,
                }
                rows, settings = (*public.train, *public.search), student_settings(public.info)
                for aar in self.aars:
                    name = f"{mark_of(self.run)}/{aar}/{task}"
                    grant = Grant.of(name, rows, settings, **facts)
                    path = self._tokens(aar) / f"{task}.token"
                    path.parent.mkdir(parents=True, exist_ok=True)
                    write_atomic(path, operator.admit(grant) + "\n", 0o644)


def _admitted(access: Access, locks: Path, ended: Callable[[], bool] = lambda: False) -> None:
    """Make the grants once the server answers.

    Raises NotFound or Unreachable if it does not, or has `ended`.
    """
    until = time.monotonic() + START_S
    while True:
        try:
            access.admit(locks)
        except (NotFound, Unreachable):  # no key yet, no socket yet
            if ended() or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return


@dataclass
class StudentChild(Child):
    """The campaign's own server. Each start makes its grants anew."""

    access: Access | None = None
    locks: Path = Path()

    def start(self) -> None:
        super().start()
        if self.access is not None:
            try:
                _admitted(self.access, self.locks, self._ended)
            except AarlabError as error:
                with self.log.open("a", encoding="utf-8") as log:
                    log.write(f"no grants were made: {error}\n")
                self.stop()  # the next poll sees it ended, and starts it again

    def _ended(self) -> bool:
        return self.handle is None or self.handle.poll() is not None


class Students(NamedTuple):
    """The access to a student server and, if the campaign started it, its process."""

    access: Access
    child: StudentChild | None


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
    """Yield the student server of a campaign, or of a share of it, until the end of the block.

    Yields None where the spec wants none. Raises Unreachable if it does not start. On one of
    several devices a server is always started: which device a running one has is not known here.
    """
    if spec.student_server is None:
        yield None
        return
    require("testbed")
    names = tuple(aar.name for aar in spec.aars) if share is None else share.aars
    locks, several = DeviceSettings().device_locks, share is not None and share.device is not None

    def found() -> Access | None:
        return None if several else _running_one(Access(run, root, spec, Path(), names), locks)

    if (access := found()) is None:
        child = _started(Access(run, root, spec, Path(), names), locks, share)
        try:
            if child.handle is not None and child.handle.poll() is None:
                assert child.access is not None
                yield Students(child.access, child)
                return
        finally:
            child.stop()
        if (access := found()) is None:  # else another pod of this machine was first
            raise Unreachable(
                f"the student server did not start: {plain_reason(child.last_words(3))}; see "
                f"{child.log}"
            )
    _admitted(access, locks)
    yield Students(access, None)


def _running_one(access: Access, locks: Path) -> Access | None:
    """Return the access to a server of this machine that has the device, if there is one."""
    server = access.spec.student_server
    for note in running(locks):
        if server and "socket" in note and note["device"].startswith(_prefix(server.device)):
            return replace(access, socket=Path(note["socket"]))
    return None


def _prefix(device: str) -> str:
    return "" if device == "auto" else device


def _started(access: Access, locks: Path, share: Share | None) -> StudentChild:
    run, spec = access.run, access.spec
    assert spec.student_server is not None
    own = locks / "campaigns" / mark_of(run)
    socket = (own if share is None else own / share.name) / "socket"
    models = {model_at_hand(load_info(access.root.public_task(task))) for task in spec.tasks}
    argv = [sys.executable, "-m", "aarlab.students", "--device", spec.student_server.device]
    argv += ["--socket", str(socket), "--models", ",".join(sorted(m for m in models if m))]
    log = run.path / ("students.log" if share is None else f"students-{share.name}.log")
    if share is not None and share.device is not None:
        argv = ["env", f"CUDA_VISIBLE_DEVICES={visible_device(share.device)}", *argv]
    access = replace(access, socket=socket)
    child = StudentChild("students", argv, log, access=access, locks=locks)
    child.start()
    return child


def mark_of(run: RunDir) -> str:
    """Return a name of the run's folder that differs from those of other campaigns."""
    return sha256_hex(str(run.path.absolute()).encode())[:12]
