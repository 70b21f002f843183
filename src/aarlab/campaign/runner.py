"""Runs a campaign: server, one process per AAR, verification, export. Restartable at any line.

What is done is known to the server's database and to each AAR's own folder, never to this process:
`resume` is `run` on a folder that exists. Every request that changes something is idempotent.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from aarlab.agents.config import AarConfig
from aarlab.agents.state import load_state
from aarlab.campaign.events import EventLog, Notify
from aarlab.campaign.policy import requested_verifications, wanted_verifications
from aarlab.campaign.processes import Child, wait_for_server
from aarlab.campaign.spec import AarSpec, CampaignSpec, parse_spec
from aarlab.client.operator import OperatorClient
from aarlab.client.transport import Address, health
from aarlab.core.errors import Conflict, Damaged, NotFound, Unreachable
from aarlab.core.files import write_atomic, write_json
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import CampaignExport, NewAar
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

POLL_S = 0.25


@dataclass(frozen=True, slots=True)
class Campaign:
    """One campaign on disk and where its tasks and models lie."""

    run: RunDir
    root: DataRoot
    spec: CampaignSpec
    log: EventLog


def create(run: RunDir, spec: CampaignSpec, settings: dict[str, object]) -> None:
    """Freeze the spec beside its results; Conflict if the folder holds another campaign."""
    frozen = {"campaign": spec.model_dump(mode="json"), "settings": settings}
    if run.spec.exists():
        if json.loads(run.spec.read_text())["campaign"] != frozen["campaign"]:
            raise Conflict(
                f"{run.path} holds another campaign; choose another folder, or "
                f"`aarlab campaign resume {run.path}` to go on with that one"
            )
        return
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
    """Run or go on with the campaign in `run` to its end and return the export (also on disk)."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, notify))
    with _locked(run), _server(campaign) as server:
        campaign.log.add("campaign_started", name=campaign.spec.name)
        with _operator(run) as operator:
            _register(campaign, operator)
        _run_children(campaign, server, [_aar_child(campaign, a) for a in campaign.spec.aars])
        with _operator(run) as operator:
            _request_verifications(campaign, operator)
        _run_children(campaign, server, [_verifier_child(campaign)])
        with _operator(run) as operator:
            export = write_export(operator, run.export)
        campaign.log.add("campaign_finished", submissions=len(export.submissions))
    return export


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


def _operator(run: RunDir) -> OperatorClient:
    token = (run.tokens / "operator").read_text().strip()
    return OperatorClient.over_socket(run.socket, token)


def _register(campaign: Campaign, operator: OperatorClient) -> None:
    """Give each AAR an account, a workspace and a config; what exists already stays."""
    operator.set_budget(campaign.spec.budget)
    for index, aar in enumerate(campaign.spec.aars):
        config = _config(campaign, index, aar)
        prepare_workspace(config.workspace, config.uid)
        if not config.token_file.exists():
            new = NewAar(
                name=aar.name,
                researcher=aar.role if aar.researcher == "fixed" else aar.researcher,
                direction=aar.direction,
                arm=aar.arm,
                team=aar.team,
                replicate=aar.replicate,
                limits=campaign.spec.limits_of(aar),
                isolation=campaign.spec.isolation,
            )
            token = operator.register(new)
            write_atomic(config.token_file, token.token + "\n", 0o600)
        write_atomic(_config_path(campaign, aar), config.model_dump_json(indent=1) + "\n")
        campaign.log.add("aar_registered", aar=aar.name)


def _config_path(campaign: Campaign, aar: AarSpec) -> Path:
    return campaign.run.aar(aar.name) / "aar.json"


def _config(campaign: Campaign, index: int, aar: AarSpec) -> AarConfig:
    spec, run = campaign.spec, campaign.run
    task = spec.tasks[0]
    return AarConfig(
        name=aar.name,
        researcher=aar.researcher,
        direction=aar.direction,
        methods=aar.methods,
        recipes=aar.recipes,
        seed=aar.seed,
        task=task,
        home=run.aar(aar.name).absolute(),
        token_file=(run.tokens / aar.name).absolute(),
        socket=run.socket.absolute(),
        public_task=campaign.root.public_task(task).absolute(),
        models=campaign.root.models.absolute(),
        n_seeds=spec.seeds_per_submission,
        max_trials=len(aar.fixed) or spec.limits_of(aar).submissions or sys.maxsize,
        trial_timeout_s=spec.trial_timeout_s,
        isolation=spec.isolation,
        uid=aar_uid(index) if spec.isolation == "bubblewrap" else None,
        device_dollars_per_hour=spec.device_dollars_per_hour,
        language=spec.language_of(aar),
        prices=spec.prices,
    )


def _aar_child(campaign: Campaign, aar: AarSpec) -> Child:
    home = campaign.run.aar(aar.name)
    argv = [sys.executable, "-m", "aarlab.agents", str(_config_path(campaign, aar))]
    return Child(aar.name, argv, home / "aar.log")


def _verifier_child(campaign: Campaign) -> Child:
    run = campaign.run
    argv = [sys.executable, "-m", "aarlab.verify", "--run", str(run.path)]
    argv += ["--root", str(campaign.root.path), "--isolation", campaign.spec.isolation]
    effort = campaign.spec.verify
    argv += ["--parallel", str(effort.parallel), "--ablate-top", str(effort.ablate_top)]
    argv += ["--seeds", str(effort.seeds)]
    argv += [] if effort.seconds is None else ["--seconds", str(effort.seconds)]
    return Child("verifier", argv, run.verifier / "verifier.log")


def _run_children(campaign: Campaign, server: Child, children: list[Child]) -> None:
    """Wait until all children ended; crashed ones are started again, and so is the server."""
    todo = [child for child in children if not _already_done(campaign, child)]
    for child in todo:
        child.start()
    try:
        while any(not (child.finished or child.failed) for child in todo):
            for child in (server, *todo):
                if event := child.poll():
                    code = child.last_words(1) if event != "finished" else ""
                    campaign.log.add(f"process_{event}", process=child.name, last=code)
            campaign.log.notify("tick", {})
            time.sleep(POLL_S)
    finally:
        for child in todo:
            child.stop()


def _already_done(campaign: Campaign, child: Child) -> bool:
    return load_state(campaign.run.aar(child.name) / "state.json").finished


def _request_verifications(campaign: Campaign, operator: OperatorClient) -> None:
    asked = requested_verifications(operator.method_requests(), campaign.spec)
    for wanted in [*asked, *wanted_verifications(operator.export(), campaign.spec)]:
        key = f"verify-{wanted.snapshot}-{wanted.task}-{wanted.split}-{wanted.ablation}"
        job = operator.request_verification(wanted, key=key)
        campaign.log.add("verification_queued", method=job.method, ablation=job.ablation)


def export_of(run: RunDir, root: DataRoot, path: Path) -> CampaignExport:
    """Export a campaign that is not running: starts its server for as long as it takes."""
    with at_rest(run, root) as operator:
        return write_export(operator, path)


@contextlib.contextmanager
def at_rest(run: RunDir, root: DataRoot) -> Iterator[OperatorClient]:
    """A campaign that is not running, its server started for as long as this is open."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, _silent))
    with _locked(run), _server(campaign), _operator(run) as operator:
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
        with _operator(run) as operator:
            yield operator


def verify_again(run: RunDir, root: DataRoot) -> None:
    """Work off what is queued and add the audits that are missing; the campaign is not running."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, _silent))
    with _locked(run), _server(campaign) as server:
        _run_children(campaign, server, [_verifier_child(campaign)])
        with _operator(run) as operator:
            write_export(operator, run.export)


def write_export(operator: OperatorClient, path: Path) -> CampaignExport:
    export = operator.export(ideas=True)
    write_atomic(path, export.model_dump_json(indent=1) + "\n", 0o600)
    return export


def _silent(kind: str, facts: dict[str, object]) -> None:
    """Nobody watches an export."""
