"""Pods of a campaign: which AAR is in which, what they are told, and what they report.

The campaign sees an AAR of a pod as it sees any other process: a `Child` that finishes, crashes and
is started again. It is the pod (campaign.pod) that starts it.
"""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.campaign.aars import AarSpec
from aarlab.campaign.executing import resources
from aarlab.campaign.node import Boot, sealed
from aarlab.campaign.pod import (
    AarReport,
    Orders,
    PodConfig,
    Report,
    orders_file,
    read,
    report_file,
)
from aarlab.campaign.processes import Child
from aarlab.campaign.registration import Campaign, config_path
from aarlab.campaign.settings import PodSettings
from aarlab.core.files import text_in, write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.supervision import pod_key
from aarlab.core.wire_kept import POD_STOPPED
from aarlab.executors.base import Ended

READ_EVERY_S = 0.5


@dataclass
class PodChild(Child):
    """The job of one pod, with what its AARs were asked for and what it reports of them."""

    folder: Path = Path()
    runs: dict[str, int] = field(default_factory=dict)
    _report: Report = field(default_factory=Report)
    _read_at: float = float("-inf")

    def ask(self, name: str) -> int:
        """Have an AAR run (again); return the number of times that it was asked for."""
        self.runs[name] = self.runs.get(name, 0) + 1
        text = Orders(runs=self.runs).model_dump_json(indent=1) + "\n"
        write_atomic(orders_file(self.folder), text)
        if self.handle is not None and (self.finished or self.failed):
            self.again()
        return self.runs[name]

    def report(self, name: str, run: int) -> AarReport | None:
        """Return what is reported of an AAR since it was asked for the `run`th time."""
        if time.monotonic() - self._read_at >= READ_EVERY_S:
            self._report = read(report_file(self.folder), Report) or Report()
            self._read_at = time.monotonic()
        found = self._report.aars.get(name)
        return found if found is not None and found.run == run else None

    def last_words(self, lines: int = 5) -> str:
        """Return the end of its log, or what it reported where its log is on its node."""
        if self.log.parent == self.folder:
            return super().last_words(lines)
        return "\n".join(text_in(self.folder / POD_STOPPED).rstrip("\n").split("\n")[-lines:])

    def poll(self) -> str | None:
        """Poll the job; one that ended before it saw the last orders is started again."""
        event = super().poll()
        if event == "finished":
            self._read_at = float("-inf")
            reports = [self.report(name, run) for name, run in self.runs.items()]
            if any(report is None or not report.over for report in reports):
                self.again()
                return None
        return event


@dataclass
class Member(Child):
    """One AAR of a pod."""

    pod: PodChild | None = None
    _run: int = 0
    _last: AarReport | None = None

    def start(self) -> None:
        assert self.pod is not None
        self._last = None
        self._run = self.pod.ask(self.name)

    def poll(self) -> str | None:
        """Return what the pod reports that just happened, as `Child.poll` does."""
        assert self.pod is not None
        if self.finished or self.failed or not self._run:
            return None
        now, last = self.pod.report(self.name, self._run), self._last
        if now is None or now == last:
            if self.pod.failed:
                self.failed, self.ended = True, self.pod.ended
                return "failed"
            return None
        self._last, self.crashes = now, now.crashes
        if now.state != "running":
            self.ended = Ended(now.code, now.why)
        if now.over:
            self.finished, self.failed = now.state == "finished", now.state == "failed"
            return now.state
        if now.state == "waiting":
            return "crashed"
        return None if last is None else "restarted"

    def stop(self) -> None:
        """Leave it to the pod, which ends with all its AARs."""


def boot_of(config: PodConfig) -> Boot:
    """Return what a pod is started with where no folder is shared.

    Raises BadInput without a secret that seals its key, which travels to other machines.
    """
    boot = Boot(
        name=config.name,
        aars=sorted(config.aars),
        root=config.root,
        devices=config.devices,
        socket=config.socket if config.url is None else None,
        url=config.url,
        ca="" if config.ca is None else config.ca.read_text(encoding="utf-8"),
    )
    if config.url is None:  # this machine
        return boot.model_copy(update={"key_file": config.key_file})
    key = config.key_file.read_text(encoding="utf-8").strip()
    secret = PodSettings().secret.get_secret_value()
    return boot.model_copy(update={"key": sealed(key, secret)})


def pod_log(campaign: Campaign, name: str) -> Path:
    """Return where the engine writes a pod's output: on its node, where no folder is shared."""
    folder = campaign.run.pod(name).absolute()
    if campaign.spec.executor.state == "shared" or campaign.listens is None:
        return folder / "pod.log"
    mark = sha256_hex(str(folder))[:8]
    return Path("/tmp") / f"aarlab-{campaign.spec.name}-{name}-{mark}.log"


def pods_of(campaign: Campaign, aars: Sequence[AarSpec]) -> list[PodChild]:
    """Make the folders of the campaign's pods; return a job for each, which is not started yet."""
    size, spec = campaign.spec.executor.aars_per_pod, campaign.spec
    assert size is not None
    token = (campaign.run.tokens / "operator").read_text(encoding="utf-8").strip()
    found = []
    for number, start in enumerate(range(0, len(aars), size), 1):
        name, members = f"pod-{number}", aars[start : start + size]
        folder = campaign.run.pod(name).absolute()
        key = campaign.run.platform.absolute() / "pods" / name
        key.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(key, pod_key(token, [aar.name for aar in members]) + "\n", 0o600)
        folder.mkdir(parents=True, exist_ok=True)
        config = PodConfig(
            name=name,
            folder=folder,
            run=campaign.run.path.absolute(),
            root=campaign.root.path.absolute(),
            aars={aar.name: config_path(campaign, aar).absolute() for aar in members},
            key_file=key,
            socket=campaign.run.socket.absolute(),
            url=None if campaign.listens is None else campaign.listens.url,
            ca=None if campaign.listens is None else (campaign.run.tls / "ca.pem").absolute(),
            devices=0 if spec.student_server is None else spec.executor.devices_per_pod,
        )
        place = folder / "pod.json"
        write_atomic(place, config.model_dump_json(indent=1) + "\n")
        runs = (read(orders_file(folder), Orders) or Orders()).runs
        given = str(place) if spec.executor.state == "shared" else boot_of(config).model_dump_json()
        argv = [sys.executable, "-m", "aarlab.campaign.pod", given]
        wants = resources(spec.executor, len(members))
        found.append(
            PodChild(
                name,
                argv,
                pod_log(campaign, name),
                executor=campaign.executor,
                resources=wants,
                folder=folder,
                runs=dict(runs),
            )
        )
    return found
