"""Keeps a campaign's processes up and looks after it while it runs.

AARs run side by side with the verifier, which works off what they ask for. Everything here can be
killed at any line: what was asked for is known to the platform, what was done to each AAR's folder.
"""

import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from aarlab.agents.state import how_it_ended, load_state, reopen
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.executing import resources
from aarlab.campaign.looking import Known
from aarlab.campaign.pods import Member, PodChild, pods_of
from aarlab.campaign.policy import requested_verifications
from aarlab.campaign.processes import Child, CrashedRepeatedly
from aarlab.campaign.registration import Campaign, config_path
from aarlab.campaign.status import endings, give_up, guest_over, why_it_died
from aarlab.campaign.watch import VERIFIED, Look, alerts, events_of, newly_verified
from aarlab.campaign.webhook import note_trouble
from aarlab.client.operator import OperatorClient
from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.endings import AarEnding, plain_reason
from aarlab.core.errors import AarlabError
from aarlab.core.layout import RunDir
from aarlab.core.wire import AarRecord, Verification
from aarlab.core.wire_ledger import Control
from aarlab.core.wire_verifiers import Lease

POLL_S = 0.25
LOOK_EVERY_S = 2.0
LOOK_DEADLINE_S = 2.0
VERIFIER_NICE = 5
ENDED = "aar_ended"


def operator_of(run: RunDir, deadline_s: float = 60.0) -> OperatorClient:
    token = (run.tokens / "operator").read_text(encoding="utf-8").strip()
    return OperatorClient.over_socket(run.socket, token, deadline_s)


def aar_child(campaign: Campaign, aar: AarSpec, pod: PodChild | None = None) -> Child:
    log = campaign.run.aar_log(aar.name)
    if pod is not None:
        return Member(aar.name, (), log, pod=pod)
    argv = [sys.executable, "-m", "aarlab.agents", str(config_path(campaign, aar))]
    return Child(
        aar.name,
        argv,
        log,
        executor=campaign.executor,
        resources=resources(campaign.spec.executor),
    )


def last_call(run: RunDir) -> Path:
    """Return the file after which the verifier ends, once everything queued is done."""
    return run.verifier / "last-call"


def verifier_child(campaign: Campaign, until: Path | None = None) -> Child:
    """Return the verifier's process.

    With `until` it works while the AARs run, until that file is there, and gives way to them.
    """
    run, effort = campaign.run, campaign.spec.verify
    argv = [sys.executable, "-m", "aarlab.verify", "--run", str(run.path)]
    argv += ["--root", str(campaign.root.path), "--isolation", campaign.spec.isolation]
    argv += ["--parallel", str(effort.parallel), "--ablate-top", str(effort.ablate_top)]
    argv += [] if campaign.spec.executor.verifiers is None else ["--elsewhere"]
    argv += ["--ablations", ",".join(effort.ablations)]
    if effort.held_out_top is not None:  # then held-out tasks get few re-runs, and no ablations
        argv += [word for task in campaign.spec.tasks for word in ("--ablate-task", task)]
    argv += ["--seeds", str(effort.seeds), "--memory-mb", str(campaign.spec.most_memory_mb)]
    argv += [] if effort.seconds is None else ["--seconds", str(effort.seconds)]
    if effort.review_dollars is not None:
        argv += ["--review-dollars", str(effort.review_dollars)]
    argv += [] if until is None else ["--until", str(until), "--nice", str(VERIFIER_NICE)]
    return Child("verifier", argv, run.verifier / "verifier.log")


@dataclass
class Supervisor:
    """`wait` returns when all that was `added` has ended; crashed processes are started again."""

    campaign: Campaign
    server: Child
    children: dict[str, Child] = field(default_factory=dict)
    beside: list[Child] = field(default_factory=list)
    pods: list[PodChild] = field(default_factory=list)
    verifiers: list[Child] = field(default_factory=list)  # verification pods
    guests: dict[str, bool] = field(default_factory=dict)  # whether its time is over
    _told: set[tuple[str, str]] = field(default_factory=set)
    _asked: set[str] = field(default_factory=set)
    _queued: set[str] | None = None
    _verified: set[str] | None = None  # re-runs that an event was logged of
    _begun: set[str] = field(default_factory=set)  # by a pod, and since when
    _seen: int | None = None
    _known: Known = field(default_factory=Known)
    _next_look: float = 0.0

    def add_aars(self) -> None:
        """Add the AARs that have not ended; an agent that joins by itself has no process here."""
        spec = self.campaign.spec
        ours = [aar for aar in spec.aars if not spec.joins_by_itself(aar)]
        for aar in (aar for aar in spec.aars if aar not in ours):
            self.guests[aar.name] = False
            token = str(self.campaign.run.tokens / aar.name)
            self.campaign.log.add("aar_awaited", aar=aar.name, token=token)
        size = spec.executor.aars_per_pod
        self.pods = [] if size is None else pods_of(self.campaign, ours)
        for place, aar in enumerate(ours):
            pod = None if size is None else self.pods[place // size]
            child = self.children[aar.name] = aar_child(self.campaign, aar, pod)
            child.finished = load_state(self._state(aar.name)).finished
            if not child.finished:  # one that was given up gets another chance with `resume`
                self.campaign.run.given_up(aar.name).unlink(missing_ok=True)
                child.start()
            elif self._ended_unnoticed(aar.name):
                self._say_ended(how_it_ended(self.campaign.run, aar.name))
        for pod in self.pods:
            if any(child.pod is pod and not child.finished for child in self._members()):
                pod.start()

    def _members(self) -> Iterator[Member]:
        return (child for child in self.children.values() if isinstance(child, Member))

    def _ended_unnoticed(self, name: str) -> bool:
        """Return whether an AAR ended after its last event, while no process watched it."""
        ends = [e["at"] for e in events_of(self.campaign.run, ENDED) if e.get("aar") == name]
        ended_s = self._state(name).stat().st_mtime
        return not ends or parse_iso(ends[-1]).timestamp() < ended_s

    def wait(self, ended: Callable[[], bool]) -> None:
        """Poll the processes until `ended()` is true.

        Raises CrashedRepeatedly if the server crashed too often and was given up.
        """
        while not ended():
            for child in (self.server, *self._all()):
                if event := child.poll():
                    self._tell(child, event)
            if self.server.failed:
                raise CrashedRepeatedly(
                    f"the server died {self.server.crashes} times in a row and was given up "
                    f"({self.server.died_of}): {plain_reason(self.server.last_words(3))}; see "
                    f"{self.server.log}"
                )
            if (webhook := self.campaign.webhook) is not None:
                note_trouble(webhook, self.campaign.log)
            if time.monotonic() >= self._next_look:
                self.look()
                self._next_look = time.monotonic() + LOOK_EVERY_S
            self.campaign.log.notify("tick", {})
            time.sleep(POLL_S)

    def _tell(self, child: Child, event: str) -> None:
        """Log an event for a process; for one that was given up, log the reason and an alert."""
        log, run = self.campaign.log, self.campaign.run
        facts: dict[str, object] = {"process": child.name}
        if event in ("queued", "begun") and child.handle is not None:
            facts["job"] = child.handle.id
        if event in ("crashed", "failed"):
            facts |= {"died_of": child.died_of, "crashes": child.crashes}
            facts["last"] = (
                why_it_died(run, child)
                if child.name in self.children
                else plain_reason(child.last_words(1))
            )
        log.add(f"process_{event}", **facts)
        if event == "finished" and child.name in self.children:
            self._say_ended(how_it_ended(run, child.name))
        elif event == "failed" and child.name in self.children:
            made = give_up(run, child)
            self._say_ended(made)
            log.add("alert", what="given_up", about=child.name, text=made.why)
        elif event == "failed":
            text = f"died {child.crashes} times in a row and was given up: {facts['last']}"
            log.add("alert", what="process", about=child.name, text=text)

    def _say_ended(self, made: AarEnding | None) -> None:
        if made is not None:
            facts = {"aar": made.aar, "ending": made.ending.value, "why": made.why}
            self.campaign.log.add(ENDED, **facts)

    def research_over(self) -> bool:
        """Return whether every AAR has ended.

        Looks once more before it says so: a budget may be extended.
        """
        if self._all_ended():
            self.look()
        return self._all_ended()

    def _all_ended(self) -> bool:
        """Return whether all AARs have ended.

        After the verifier was given up, agents that joined by themselves are not waited for: their
        requests for verification would never be answered.
        """
        ours = all(child.finished or child.failed for child in self.children.values())
        return ours and (self.unserved is not None or all(self.guests.values()))

    @property
    def unserved(self) -> Child | None:
        """Return a process without which nothing more is verified, if one was given up."""
        verifier = next((one for one in self.beside if one.name == "verifier" and one.failed), None)
        pods_failed = bool(self.verifiers) and all(one.failed for one in self.verifiers)
        return verifier or (self.verifiers[0] if pods_failed else None)

    def stop(self) -> None:
        """End all, the verifier before the student servers: a re-run that loses its model fails."""
        for child in self._all():
            child.stop()

    def _all(self) -> Iterator[Child]:
        yield from (*self.pods, *self.children.values(), *self.verifiers, *reversed(self.beside))

    def look(self) -> None:
        """Carry out what people and AARs ask for; tell what is wrong. Skipped without server."""
        run, spec, known = self.campaign.run, self.campaign.spec, self._known
        try:
            with operator_of(run, LOOK_DEADLINE_S) as operator:
                known.refresh(operator)
                self._request(operator)
                leases = operator.leases() if self.verifiers else []
                if known.queued != self._queued:  # something was settled, or asked for
                    self.note_verified(operator.verifications())
                    self._queued = known.queued
        except (AarlabError, OSError):
            return  # the server is being started again
        at_work = [lease.pod for lease in leases]
        self.campaign.log.notify("reruns_left", {"count": len(known.queued), "in_pods": at_work})
        self._note_claims(leases)
        self._heed(known.controls)
        self._look_at_guests(known.aars)
        judged = {verdict.snapshot for verdict in known.verdicts}
        judged |= {verdict.audit for verdict in known.case_verdicts}
        crashes = {n: c.crashes for n, c in self.children.items() if not c.finished}
        free = shutil.disk_usage(run.path).free
        now = Look(now_iso(), known.aars, known.audits, known.budget, crashes, free, judged)
        found = {(alert.what, alert.about): alert for alert in alerts(now, spec.alerts)}
        for key, alert in found.items():
            if key not in self._told:
                self.campaign.log.add("alert", **alert.facts)
        self._told = set(found)

    def note_verified(self, runs: Sequence[Verification]) -> None:
        """Log an event for each method that was verified since the last one was logged."""
        campaign = self.campaign
        if self._verified is None:
            logged = events_of(campaign.run, VERIFIED)
            self._verified = {str(event.get("run", "")) for event in logged}
        for facts in newly_verified(runs, campaign.spec, self._verified):
            campaign.log.add(VERIFIED, **facts)

    def _note_claims(self, leases: Sequence[Lease]) -> None:
        """Log an event for each re-run that a verification pod has begun."""
        for lease in leases:
            if (mark := f"{lease.run} {lease.since}") not in self._begun:
                self._begun.add(mark)
                self.campaign.log.add("rerun_begun", run=lease.run, pod=lease.pod)

    def _look_at_guests(self, aars: Sequence[AarRecord]) -> None:
        spec = self.campaign.spec
        for made in endings(self.campaign.run, spec, [a for a in aars if a.name in self.guests]):
            if self.guests.get(made.aar) is False:
                self._say_ended(made)
        self.guests = {a.name: guest_over(a) is not None for a in aars if a.name in self.guests}

    def _request(self, operator: OperatorClient) -> None:
        """Queue what AARs asked to have verified."""
        for wanted in requested_verifications(self._known.requests, self.campaign.spec):
            if wanted.key not in self._asked:
                job = operator.request_verification(wanted, key=wanted.key)
                self.campaign.log.add("verification_asked", method=job.method, aar=job.aar)
                self._asked.add(wanted.key)

    def _heed(self, controls: list[Control]) -> None:
        """Let an ended AAR continue when its budget, or the campaign's, was extended since."""
        for control in controls:
            if self._seen is not None and control.seq > self._seen:
                facts = control.model_dump(include={"action", "aar", "by"})
                self.campaign.log.add("control", **facts)
            if control.action != "extend":
                continue
            for name, child in self.children.items():
                if control.aar in (None, name) and child.finished and self._ended(name, control.at):
                    reopen(self._state(name))
                    child.again()
        self._seen = max((control.seq for control in controls), default=0)

    def _ended(self, name: str, before: str) -> bool:
        """Return whether the AAR ended by itself before that time."""
        path = self._state(name)
        ended_s = path.stat().st_mtime if path.exists() else 0.0
        return load_state(path).finished and ended_s < parse_iso(before).timestamp()

    def _state(self, name: str) -> Path:
        return self.campaign.run.aar(name) / "state.json"
