"""Runs a campaign: server, one process per AAR, verification, export. Restartable at any line.

What is done is known to the server's database and to each AAR's own folder, never to this process:
`resume` is `run` on a folder that exists. Every request that changes something is idempotent.
"""

import contextlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from aarlab.campaign.endings import endings
from aarlab.campaign.events import EventLog, Notify
from aarlab.campaign.policy import requested_verifications, wanted_verifications
from aarlab.campaign.processes import Child, CrashedRepeatedly, wait_for_server
from aarlab.campaign.provenance import research_settings
from aarlab.campaign.reading import SpecText
from aarlab.campaign.registration import Campaign, register
from aarlab.campaign.secrets import secrets_in
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.campaign.status import wanted_of
from aarlab.campaign.supervision import (
    Supervisor,
    last_call,
    operator_of,
    verifier_child,
)
from aarlab.client.operator import OperatorClient
from aarlab.client.transport import Address, health
from aarlab.core.endings import Ending, campaign_ending, given_up_text, one_line
from aarlab.core.errors import Conflict, Damaged, NotFound, Unreachable
from aarlab.core.faults import Faulty
from aarlab.core.files import write_atomic, write_json
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport


def create(run: RunDir, spec: CampaignSpec, settings: dict[str, object]) -> None:
    """Freeze the spec beside its results; Conflict if the folder holds another campaign.

    Prompts and prices are those of this moment. NotFound where a model has no price, Faulty where
    the spec holds a secret.
    """
    spec = spec.expanded()
    if secrets := secrets_in(SpecText(spec.model_dump(mode="json"))):
        raise Faulty("the spec holds secrets and is refused; nothing was written:", secrets)
    frozen = {"campaign": spec.model_dump(mode="json"), "settings": settings}
    if run.spec.exists():
        if open_spec(run) != spec:
            raise Conflict(
                f"{run.path} holds another campaign; choose another folder, or "
                f"`aarlab campaign resume {run.path}` to go on with that one"
            )
        return
    frozen["settings"] = {**settings, **research_settings(spec)}
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.spec, frozen)


def open_spec(run: RunDir) -> CampaignSpec:
    if not run.spec.exists():
        raise NotFound(f"{run.path} holds no campaign (no spec.json)")
    try:
        raw = json.loads(run.spec.read_text())["campaign"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{run.spec} is damaged ({error}); restore it or start a new folder"
        ) from error
    return parse_spec(raw, str(run.spec))


def run_campaign(run: RunDir, root: DataRoot, notify: Notify) -> CampaignExport:
    """Run or resume the campaign in `run` and return the export (also on disk).

    How it ended, and how each AAR did, is in the export and in the event `campaign_ended`, whatever
    ended it. Raises what it died of.
    """
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, notify))
    with _locked(run), _ended_with_event(campaign), _server(campaign) as server:
        campaign.log.add("campaign_started", name=campaign.spec.name)
        with operator_of(run) as operator:
            register(campaign, operator)
        _research_and_verify(campaign, Supervisor(campaign, server))
        with operator_of(run) as operator:
            export = write_export(run, operator, run.export)
        log_ending(campaign, export)
    return export


@contextlib.contextmanager
def _ended_with_event(campaign: Campaign) -> Iterator[None]:
    """Leave `campaign_ended` behind, however the campaign fails; only `kill -9` leaves none."""

    def end(ending: Ending, why: str) -> None:
        with contextlib.suppress(OSError):  # a full disk: the error itself is what counts
            campaign.log.add("campaign_ended", ending=ending.value, why=why)

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        end(Ending.INTERRUPTED, "")
        raise
    except BaseException as error:
        end(Ending.CRASHED, one_line(str(error) or type(error).__name__))
        raise


def log_ending(campaign: Campaign, export: CampaignExport) -> None:
    """Write the event `campaign_ended`."""
    ending, why = export.ending, given_up_text(export.endings)
    if ending is None:  # an agent that joined by itself, which could not be waited for
        ended = {each.aar for each in export.endings}
        open_ones = ", ".join(aar.name for aar in export.aars if aar.name not in ended)
        ending, why = Ending.INTERRUPTED, f"{open_ones} had not ended: the verifier was given up"
    facts = {"ending": ending.value, "submissions": len(export.submissions)}
    campaign.log.add("campaign_ended", **facts, **({"why": why} if why else {}))


def _research_and_verify(campaign: Campaign, supervisor: Supervisor) -> None:
    """AARs and, beside them, the verifier; then what the policy wants verified at the end."""
    until = last_call(campaign.run)
    until.parent.mkdir(parents=True, exist_ok=True)
    until.unlink(missing_ok=True)
    verifier = verifier_child(campaign, until)
    supervisor.beside = [verifier]
    try:
        if campaign.spec.verify.live:
            verifier.start()
        supervisor.add_aars()
        supervisor.wait(supervisor.research_over)
        supervisor.children = {}  # what is extended from here on goes on with `resume`
        with operator_of(campaign.run) as operator:
            _request_verifications(campaign, operator)
        until.touch()
        if verifier.process is None or verifier.failed:
            verifier.again()
        _await_verifier(supervisor, verifier)
    finally:
        supervisor.stop()


def _await_verifier(supervisor: Supervisor, verifier: Child) -> None:
    """Return when everything queued is done; raises CrashedRepeatedly when it will not be."""
    supervisor.wait(lambda: verifier.finished or verifier.failed)
    if verifier.failed:
        raise CrashedRepeatedly(
            f"the verifier died {verifier.crashes} times in a row and was given up "
            f"({verifier.died_of}): {one_line(verifier.last_words(3))}; see {verifier.log}. "
            f"The research is saved: aarlab campaign resume {supervisor.campaign.run.path}"
        )


@contextlib.contextmanager
def _locked(run: RunDir) -> Iterator[None]:
    lock = FileLock(run.path / ".lock", timeout=0)
    try:
        with lock:
            yield
    except Timeout as error:
        raise Conflict(f"another process is running the campaign in {run.path}") from error


def server_argv(run: RunDir, root: DataRoot, spec: CampaignSpec) -> list[str]:
    """The command that serves this campaign: its development tasks and no others."""
    argv = [sys.executable, "-m", "aarlab.server", "--run", str(run.path)]
    argv += ["--root", str(root.path)]
    argv += [word for task in spec.tasks for word in ("--task", task)]
    return argv + (["--exact-feedback"] if spec.exact_feedback else [])


@contextlib.contextmanager
def _server(campaign: Campaign) -> Iterator[Child]:
    run = campaign.run
    run.socket.parent.mkdir(parents=True, exist_ok=True)
    argv = server_argv(run, campaign.root, campaign.spec)
    child = Child("server", argv, run.path / "server.log")
    child.start()
    try:
        wait_for_server(child, run.socket)
        yield child
    finally:
        child.stop()


def _request_verifications(campaign: Campaign, operator: OperatorClient) -> None:
    asked = requested_verifications(operator.method_requests(), campaign.spec)
    for wanted in [*asked, *wanted_verifications(operator.export(), campaign.spec)]:
        job = operator.request_verification(wanted, key=wanted.key)
        campaign.log.add("verification_queued", method=job.method, ablation=job.ablation)


def export_of(run: RunDir, root: DataRoot, path: Path) -> CampaignExport:
    """Export a campaign that is not running: starts its server for as long as it takes."""
    with at_rest(run, root) as operator:
        return write_export(run, operator, path)


@contextlib.contextmanager
def at_rest(run: RunDir, root: DataRoot) -> Iterator[OperatorClient]:
    """A campaign that is not running, its server started for as long as this is open."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, _silent))
    with _locked(run), _server(campaign), operator_of(run) as operator:
        yield operator


@contextlib.contextmanager
def reached(run: RunDir, root: DataRoot) -> Iterator[OperatorClient]:
    """The operator's client of a campaign, whether it runs just now or not."""
    try:
        health(Address(run.socket), deadline_s=0.0)
    except Unreachable:
        with at_rest(run, root) as operator:
            yield operator
    else:
        with operator_of(run) as operator:
            yield operator


def verify_again(run: RunDir, root: DataRoot) -> None:
    """Work off what is queued and add the audits that are missing; the campaign is not running."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, _silent))
    with _locked(run), _server(campaign) as server:
        verifier = verifier_child(campaign)
        supervisor = Supervisor(campaign, server, beside=[verifier])
        verifier.start()
        try:
            _await_verifier(supervisor, verifier)
        finally:
            supervisor.stop()
        with operator_of(run) as operator:
            write_export(run, operator, run.export)


def write_export(run: RunDir, operator: OperatorClient, path: Path) -> CampaignExport:
    """What the platform knows, and how the AARs ended, which only the campaign's folder says."""
    spec, export = open_spec(run), operator.export(ideas=True)
    ended = endings(run, spec, export.aars)
    team = {aar.name for aar in spec.aars if aar.role == "aar"}
    counted = [each for each in ended if each.aar in team] if team else ended
    found = {"endings": ended}
    if len(ended) == len(spec.aars):
        stopped = wanted_of(export.controls) == "stop"
        export = export.model_copy(update={"ending": campaign_ending(counted, stopped)})
    export = export.model_copy(update=found)
    write_atomic(path, export.model_dump_json(indent=1) + "\n", 0o600)
    return export


def _silent(kind: str, facts: dict[str, object]) -> None:
    """Nobody watches an export."""
