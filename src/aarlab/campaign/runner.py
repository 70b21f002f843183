"""Runs a campaign: server, one process per AAR, verification, export. Restartable at any line.

What is done is known to the server's database and to each AAR's own folder, never to this process:
`resume` is `run` on a folder that exists. Every request that changes something is idempotent.
"""

import contextlib
import json
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from filelock import FileLock, Timeout

from aarlab.campaign.executing import (
    executor_faults,
    kept_lacks,
    listens,
    opened_executor,
    resources,
)
from aarlab.campaign.policy import (
    certify_best,
    held_out_verifications,
    ranked,
    requested_verifications,
    results,
    wanted_verifications,
)
from aarlab.campaign.processes import GRACE_S, Child, CrashedRepeatedly, wait_for_server
from aarlab.campaign.reading import SpecText, secrets_in
from aarlab.campaign.registration import Campaign, register, research_settings
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.campaign.status import endings, wanted_of
from aarlab.campaign.students import Students, student_server
from aarlab.campaign.supervision import (
    LOOK_DEADLINE_S,
    Supervisor,
    last_call,
    operator_of,
    verifier_child,
)
from aarlab.campaign.verifying import verifier_pods
from aarlab.campaign.watch import EVENT as CERTIFY
from aarlab.campaign.watch import EventLog, Notify
from aarlab.campaign.webhook import sending
from aarlab.client.operator import OperatorClient
from aarlab.client.transport import Address, health
from aarlab.core.endings import (
    Ending,
    campaign_ending,
    given_up_text,
    last_ending,
    plain_reason,
)
from aarlab.core.errors import (
    BadInput,
    Conflict,
    Damaged,
    Faulty,
    NotFound,
    Unavailable,
    Unreachable,
)
from aarlab.core.extras import require
from aarlab.core.files import write_atomic, write_json
from aarlab.core.holding import Work, holder, noted
from aarlab.core.layout import DataRoot, RunDir, note_use
from aarlab.core.wire import CampaignExport
from aarlab.executors.base import Executor

LOOKS_S = 30.0  # a command that looks into a campaign has a server for a few seconds
RANKED_EVERY_S = 1.0  # between looks at what is queued
NOTE_S = 2.0  # between taking the lock and saying so
START_S = 20.0


def create(
    run: RunDir, spec: CampaignSpec, settings: dict[str, object], root: DataRoot | None = None
) -> None:
    """Freeze the spec in the campaign's folder, with the current versions of the tasks in `root`.

    Current prompts and prices are frozen too. Raises Conflict if the folder holds another campaign
    or other files, NotFound if a model has no price, and Faulty if the spec holds a secret.
    """
    spec = spec.expanded().model_copy(update={"build": None})
    if secrets := secrets_in(SpecText(spec.model_dump(mode="json", exclude={"methods"}))):
        raise Faulty("the spec holds secrets and is refused; nothing was written:", secrets)
    if found := executor_faults(spec.executor, SpecText(None)):
        raise Faulty("the spec is refused; nothing was written:", found)
    if run.spec.exists():
        frozen = open_spec(run)
        if frozen.model_copy(update={"versions": {**frozen.versions, **spec.versions}}) != frozen:
            raise Conflict(_another_version(run, frozen, spec))
        if frozen != spec.model_copy(update={"versions": frozen.versions}):
            raise Conflict(
                f"{run.path} holds another campaign; choose another folder, or "
                f"`aarlab campaign resume {run.path}` to resume that one"
            )
        return
    check_vacant(run)
    settings = {**settings, **research_settings(spec)}
    if root is not None:
        root.pin(*(f"{task}@{version}" for task, version in spec.versions.items()))
        spec = _with_versions(spec, root)
    run.path.mkdir(parents=True, exist_ok=True)
    write_json(run.spec, {"campaign": spec.model_dump(mode="json"), "settings": settings})
    if root is not None:
        note_use(root, run, spec.versions)


def check_vacant(run: RunDir, make: bool = False) -> None:
    """Raise Conflict if the folder holds files but no campaign; `make` creates a missing folder."""
    if run.spec.exists():
        return
    if make and not run.path.exists():
        run.path.mkdir(parents=True)
    if run.path.exists() and not run.path.is_dir():
        raise Conflict(f"{run.path} is a file: choose another folder with --out")
    if not run.path.is_dir():
        return
    ours = {"launch.yaml", "campaign.log", run.lock.name, run.holder.name}
    if others := sorted(path.name for path in run.path.iterdir() if path.name not in ours):
        raise Conflict(
            f"{run.path} is not empty ({others[0]!r} is there) and holds no campaign: choose "
            "another folder with --out"
        )


def _another_version(run: RunDir, frozen: CampaignSpec, spec: CampaignSpec) -> str:
    pairs = [(t, v, frozen.versions.get(t)) for t, v in spec.versions.items()]
    task, wanted, bound = next(pair for pair in pairs if pair[1] != pair[2])
    return (
        f"the campaign in {run.path} is bound to {task}@{bound}, not to {task}@{wanted}: choose "
        "another folder with --out for a campaign on that version"
    )


def _with_versions(spec: CampaignSpec, root: DataRoot) -> CampaignSpec:
    """Bind each task that is present to the version that its name currently means."""
    made = dict(spec.versions)
    for task in (*spec.tasks, *spec.held_out):
        if task not in made and root.versions(task):
            made[task] = root.find_task(task).version
    return spec.model_copy(update={"versions": made})


def bind(run: RunDir, root: DataRoot) -> DataRoot:
    """Return the data root pinned to the task versions that this campaign is bound to.

    Tasks that were built after the campaign was created are bound now. Raises NotFound, with
    advice, if a version is missing: the campaign cannot run on another one.
    """
    spec = open_spec(run)
    root = replace(root, pinned=run.task_versions())
    for task in (*spec.tasks, *spec.held_out):
        if (wanted := (root.pinned or {}).get(task)) is None:
            root.check_task(task)
            continue
        try:
            root.check_task(task)
        except NotFound as error:
            bound = f"bound to {task}@{wanted}" if wanted else "from before tasks had versions"
            raise NotFound(
                f"the campaign in {run.path} is {bound}, and cannot run without it: {error}. "
                "It can be read as it is: campaign status, report, audit list, serve"
            ) from error
    root = root.pin(*spec.tasks, *spec.held_out)
    bound_to = dict(root.pinned or {})
    if bound_to != spec.versions:
        frozen = json.loads(run.spec.read_text(encoding="utf-8"))
        frozen["campaign"]["versions"] = bound_to
        write_json(run.spec, frozen)
    note_use(root, run, bound_to)
    return root


def open_spec(run: RunDir) -> CampaignSpec:
    run.must_exist()
    try:
        raw = json.loads(run.spec.read_text(encoding="utf-8"))["campaign"]
    except (ValueError, KeyError, TypeError) as error:
        raise Damaged(
            f"{run.spec} is damaged ({error}); restore it or start a new folder"
        ) from error
    return parse_spec(raw, str(run.spec))


def run_campaign(run: RunDir, root: DataRoot, notify: Notify) -> CampaignExport:
    """Run or resume the campaign in `run` and return the export, which is also written to disk.

    The export says how the campaign and each AAR ended. The event `campaign_ended` is logged
    whatever ended the campaign. Raises the error that ended it.
    """
    open_spec(run)
    with _locked(run, "run"):
        root, spec, log = bind(run, root), open_spec(run), EventLog(run.events, notify)
        with (
            opened_executor(spec.executor, run.executor) as executor,
            sending(run, spec, log) as webhook,
        ):
            campaign = _on(executor, Campaign(run, root, spec, log, webhook=webhook))
            with _ended_with_event(campaign):
                _take_over(campaign)
                with _server(campaign) as server, _students(run, root, spec) as students:
                    campaign = replace(campaign, students=students and students.access)
                    return _run(campaign, server, students.children if students else [])


def _on(executor: Executor, campaign: Campaign) -> Campaign:
    """Return the campaign with its executor. Raises BadInput for what its pods lack."""
    if lacks := kept_lacks(campaign.spec.executor, executor.platform_host):
        raise BadInput(f"executor: {lacks[0]}")
    return replace(campaign, executor=executor, listens=listens(executor))


def _students(
    run: RunDir, root: DataRoot, spec: CampaignSpec
) -> contextlib.AbstractContextManager[Students | None]:
    """Return the campaign's student server; pods have their own."""
    if spec.executor.aars_per_pod is not None:
        return contextlib.nullcontext()
    return student_server(run, root, spec)


def _take_over(campaign: Campaign) -> None:
    """Check the executor, and stop the AARs that an earlier process of this campaign left running.

    One life of an AAR at a time: none is started before they are gone. Raises Unavailable.
    """
    executor, spec = campaign.executor, campaign.spec.executor
    if missing := list(executor.check(resources(spec))):
        raise Unavailable(f"executor {spec.name} cannot run here: {'; '.join(missing)}")
    for name, handle in executor.leftovers():
        handle.stop(GRACE_S)
        if handle.poll() is None:
            raise Unavailable(
                f"{name} of an earlier run is still running and does not stop: {handle.id}"
            )
        campaign.log.add("process_left", process=name, job=handle.id)


def _run(campaign: Campaign, server: Child, students: Sequence[Child]) -> CampaignExport:
    run = campaign.run
    campaign.log.add("campaign_started", name=campaign.spec.name)
    with operator_of(run) as operator:
        register(campaign, operator)
    supervisor = Supervisor(campaign, server, beside=[*students])
    _research_and_verify(campaign, supervisor)
    with operator_of(run) as operator:
        export = write_export(run, operator, run.export)
    supervisor.note_verified(export.verifications)
    if campaign.spec.verify.certify:
        for one in results(export, campaign.spec.tasks):
            campaign.log.add(CERTIFY, **one.model_dump())
    log_ending(campaign, export)
    return export


@contextlib.contextmanager
def _ended_with_event(campaign: Campaign) -> Iterator[None]:
    """Log the event `campaign_ended` if the campaign fails or is interrupted.

    It is missing only after `kill -9` or if it cannot be written. A campaign that had ended, and
    that a later process could not start again, keeps its ending.
    """

    def end(ending: Ending, why: str) -> None:
        last = last_ending(campaign.run.events)
        if last is not None and last[0] not in (Ending.CRASHED, Ending.INTERRUPTED):
            return
        with contextlib.suppress(OSError):  # a full disk: the error itself is what counts
            campaign.log.add("campaign_ended", ending=ending.value, why=why)

    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        end(Ending.INTERRUPTED, "")
        raise
    except BaseException as error:
        end(Ending.CRASHED, plain_reason(str(error) or type(error).__name__))
        raise


def log_ending(campaign: Campaign, export: CampaignExport) -> None:
    """Log the event `campaign_ended` of a campaign that was exported."""
    ending, why = export.ending, given_up_text(export.endings)
    if ending is None:  # an agent that joined by itself, which could not be waited for
        ended = {each.aar for each in export.endings}
        open_ones = ", ".join(aar.name for aar in export.aars if aar.name not in ended)
        ending, why = Ending.INTERRUPTED, f"{open_ones} had not ended: the verifier was given up"
    facts = {"ending": ending.value, "submissions": len(export.submissions)}
    campaign.log.add("campaign_ended", **facts, **({"why": why} if why else {}))


def _research_and_verify(campaign: Campaign, supervisor: Supervisor) -> None:
    """Run the AARs together with the verifier, then the verifications of the end.

    The last ones are what the policy wants verified at the end, and the best-ranked methods on the
    certify split.
    """
    until = last_call(campaign.run)
    until.parent.mkdir(parents=True, exist_ok=True)
    until.unlink(missing_ok=True)
    verifier = verifier_child(campaign, until)
    supervisor.beside.append(verifier)
    supervisor.verifiers = verifier_pods(campaign)
    try:
        if campaign.spec.verify.live:
            _start(verifier, supervisor)
        supervisor.add_aars()
        supervisor.wait(supervisor.research_over)
        supervisor.children = {}  # what is extended from here on continues with `resume`
        with operator_of(campaign.run) as operator:
            _request_verifications(campaign, operator)
        if verifier.handle is None or supervisor.unserved:
            _start(verifier, supervisor)
        _try_the_best(supervisor, verifier)
        until.touch()
        if verifier.finished:  # ended by somebody else, and more is queued now
            verifier.again()
        _await_verifier(supervisor, verifier)
    finally:
        supervisor.stop()


def _start(verifier: Child, supervisor: Supervisor) -> None:
    """Start the verifier and verification pods that do not run, also those that were given up."""
    for child in (verifier, *supervisor.verifiers):
        if child.handle is None or child.failed:
            child.again()


def _try_the_best(supervisor: Supervisor, verifier: Child) -> None:
    """Queue the best-ranked methods on held-out tasks and certify once it is known which they are.

    Queues none if the spec wants neither.
    """
    campaign, looked = supervisor.campaign, -RANKED_EVERY_S
    spec = campaign.spec
    if not spec.verify.certify and (not spec.held_out or spec.verify.held_out_top is None):
        return
    with operator_of(campaign.run, LOOK_DEADLINE_S) as operator:

        def known() -> bool:
            nonlocal looked
            if supervisor.unserved or verifier.finished:
                return True
            if time.monotonic() - looked < RANKED_EVERY_S:
                return False
            looked = time.monotonic()
            return ranked(operator)

        supervisor.wait(known)
    if supervisor.unserved:
        return  # the end says so; nothing more would be run
    with operator_of(campaign.run) as operator:
        for wanted in held_out_verifications(operator.export(), spec):
            job = operator.request_verification(wanted, key=wanted.key)
            campaign.log.add("verification_queued", method=job.method, task=job.task)
        if spec.verify.certify:
            for one in certify_best(operator, spec.tasks, spec.verify.seeds):
                campaign.log.add(CERTIFY, **one.model_dump())


def _await_verifier(supervisor: Supervisor, verifier: Child) -> None:
    """Wait until the verifier finishes.

    Raises CrashedRepeatedly if it, or every verification pod, was given up.
    """
    supervisor.wait(lambda: verifier.finished or supervisor.unserved is not None)
    if (gone := supervisor.unserved) is not None and not verifier.finished:
        raise CrashedRepeatedly(
            f"process {gone.name} died {gone.crashes} times in a row and was given up "
            f"({gone.died_of}): {plain_reason(gone.last_words(3))}; see {gone.log}. "
            f"The research is saved: aarlab campaign resume {supervisor.campaign.run.path}"
        )


@contextlib.contextmanager
def _locked(run: RunDir, work: Work) -> Iterator[None]:
    """Hold the campaign's lock; raises Conflict if another process keeps it.

    Waits up to LOOKS_S for a command that only reads the campaign. Does not wait for one that runs
    or verifies it.
    """
    lock, began = FileLock(run.lock, timeout=0), time.monotonic()
    while not lock.is_locked:
        try:
            lock.acquire()
        except Timeout as error:
            other = holder(run.holder)
            patience_s = {None: NOTE_S, "look": LOOKS_S}.get(other and other.work, 0.0)
            if time.monotonic() - began > patience_s:
                raise Conflict(f"another process is running the campaign in {run.path}") from error
            time.sleep(0.1)
    try:
        with noted(run.holder, work):
            yield
    finally:
        lock.release()


def server_argv(
    run: RunDir, root: DataRoot, spec: CampaignSpec, at_rest: bool = False
) -> list[str]:
    """Return the command that serves this campaign with its development tasks and no others.

    `at_rest` also serves it without a task or a vault, so that existing scores can be read.
    """
    argv = [sys.executable, "-m", "aarlab.server", "--run", str(run.path)]
    argv += ["--root", str(root.path)]
    argv += [word for task in spec.tasks for word in ("--task", task)]
    argv += ["--at-rest"] if at_rest else []
    return argv + (["--exact-feedback"] if spec.exact_feedback else [])


@contextlib.contextmanager
def _server(campaign: Campaign, at_rest: bool = False) -> Iterator[Child]:
    require("server")
    run = campaign.run
    run.socket.parent.mkdir(parents=True, exist_ok=True)
    argv = server_argv(run, campaign.root, campaign.spec, at_rest)
    if (tcp := campaign.listens) is not None:
        from aarlab.campaign.certificates import certificates  # of the extra `server`

        made = certificates(run, tcp.host)
        argv += ["--host", tcp.host, "--port", str(tcp.port)]
        argv += ["--certificate", str(made.certificate), "--certificate-key", str(made.key)]
    child = Child("server", argv, run.path / "server.log", endless=True)
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
    """Yield a client of a campaign that is not running; its server runs while this is open."""
    campaign = Campaign(run, root, open_spec(run), EventLog(run.events, _silent))
    with _locked(run, "look"), _server(campaign, at_rest=True), operator_of(run) as operator:
        yield operator


@contextlib.contextmanager
def reached(run: RunDir, root: DataRoot) -> Iterator[OperatorClient]:
    """Yield the operator's client of a campaign, whether it runs just now or not."""
    other = holder(run.holder)  # one that runs has a server, or is starting it
    try:
        health(Address(run.socket), deadline_s=START_S if other and other.work != "look" else 0.0)
    except Unreachable:
        with at_rest(run, root) as operator:
            yield operator
    else:
        with operator_of(run) as operator:
            yield operator


def verify_again(run: RunDir, root: DataRoot) -> None:
    """Work off what is queued and add the audits that are missing; the campaign is not running."""
    open_spec(run)
    with contextlib.ExitStack() as opened:
        opened.enter_context(_locked(run, "verify"))
        campaign = Campaign(run, bind(run, root), open_spec(run), EventLog(run.events, _silent))
        if (wanted := campaign.spec.executor).verifiers is not None:
            campaign = _on(opened.enter_context(opened_executor(wanted, run.executor)), campaign)
            _take_over(campaign)
        server = opened.enter_context(_server(campaign))
        verifier = verifier_child(campaign)
        supervisor = Supervisor(campaign, server, beside=[verifier])
        supervisor.verifiers = verifier_pods(campaign)
        try:
            _start(verifier, supervisor)
            _await_verifier(supervisor, verifier)
        finally:
            supervisor.stop()
        with operator_of(run) as operator:
            write_export(run, operator, run.export)


def write_export(run: RunDir, operator: OperatorClient, path: Path) -> CampaignExport:
    """Write and return the export, with the endings that only the campaign's folder records."""
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
    """Ignore an event: an export is not watched."""
