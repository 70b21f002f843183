"""How campaigns and AARs end, and how crashed processes come back: real processes, small waits."""

import io
import json
import re
import shutil
import time
from pathlib import Path

import pytest
from toy_campaign import command, finished, toy_spec

from aarlab.agents.language.transcripts import note_given_up
from aarlab.agents.specs import LanguageSpec
from aarlab.agents.state import AarState, how_it_ended, save_state
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.processes import Child, CrashedRepeatedly
from aarlab.campaign.registration import Campaign
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.settings import RestartSettings
from aarlab.campaign.spec import CampaignSpec
from aarlab.campaign.supervision import Supervisor
from aarlab.campaign.watch import EventLog, queued_jobs
from aarlab.cli.campaign import exit_code
from aarlab.cli.progress import CampaignView
from aarlab.cli.terminal import Console
from aarlab.core.endings import (
    AarEnding,
    Ending,
    campaign_ending,
    ending_of,
    last_ending,
    plain_reason,
)
from aarlab.core.errors import Unavailable
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import CampaignExport, Limits
from aarlab.executors.local import LocalExecutor
from aarlab.report.load import load_export
from aarlab.report.write import write_report
from aarlab.server.dashboard import run_files

QUICK = RestartSettings(first_s=0.02, factor=1, longest_s=0.02, most_crashes=2)


def events(run: RunDir) -> list[dict]:
    return [json.loads(line) for line in run.events.read_text().splitlines()]


def lone_language_aar() -> CampaignSpec:
    ada = AarSpec(name="ada", researcher="language", language=LanguageSpec(model="openai/gpt-5"))
    changes = {"aars": [ada], "limits": Limits(hours=1, dollars=1)}
    return toy_spec().model_copy(update=changes)


@pytest.fixture(scope="module")
def given_up(
    toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RunDir, CampaignExport]:
    """A campaign whose only AAR has no key: started again it would end the same way."""
    run = RunDir(tmp_path_factory.mktemp("given-up") / "toy")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("OPENAI_API_KEY", "AZUREAI_OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
            patch.delenv(name, raising=False)
        patch.setenv("AARLAB_RESTART_FIRST_S", "0.1")
        patch.setenv("AARLAB_RESTART_MOST_CRASHES", "1")
        create(run, lone_language_aar(), {"why": "test"})
        return run, run_campaign(run, toy_root, lambda _kind, _facts: None)


def test_a_campaign_whose_only_aar_died_says_so_everywhere(
    given_up: tuple[RunDir, CampaignExport], toy_root: DataRoot, tmp_path: Path
) -> None:
    run, export = given_up
    assert export.ending is Ending.GIVEN_UP and exit_code(export) == 4
    (ending,) = export.endings
    assert (ending.aar, ending.ending) == ("ada", Ending.GIVEN_UP)
    assert "OPENAI_API_KEY" in ending.why and "[bold]" not in ending.why
    kinds = [event["kind"] for event in events(run)]
    assert kinds.count("process_crashed") == 0 and kinds.count("process_failed") == 1
    assert "campaign_finished" not in kinds
    last = events(run)[-1]
    assert (last["kind"], last["ending"]) == ("campaign_ended", "given_up")
    alert = next(event for event in events(run) if event["kind"] == "alert")
    assert (alert["what"], alert["about"]) == ("given_up", "ada")
    assert all("OPENAI_API_KEY" in said for said in (last["why"], alert["text"]))
    (entry,) = read_transcript(run.transcript("ada"))
    assert entry.kind == "error" and "OPENAI_API_KEY" in entry.text
    standing = run_files.standing(run)
    assert standing.state == "given_up" and "OPENAI_API_KEY" in standing.why
    said = how_it_ended(run, "ada")
    assert run_files.aar_ending(run, "ada") == said and said.ending is Ending.GIVEN_UP
    files = write_report(load_export(run.export), tmp_path / "report")
    assert "ada was given up" in files.page.read_text()
    assert "OPENAI_API_KEY" in json.loads(files.summary.read_text())["given_up"]["ada"]
    code, out = finished(command(toy_root, "campaign", "status", str(run.path)), 60)
    told = " ".join(out.split())
    assert code == 0 and "given up" in told and "OPENAI_API_KEY" in told
    assert "not started" not in told


def test_what_cannot_start_again_keeps_its_ending(
    given_up: tuple[RunDir, CampaignExport], toy_root: DataRoot, tmp_path: Path
) -> None:
    """Such as a finished campaign that is resumed where its engine is not to be found."""
    run = RunDir(shutil.copytree(given_up[0].path, tmp_path / "toy"))
    frozen = json.loads(run.spec.read_text())
    frozen["campaign"]["executor"] = {"name": "slurm", "options": {"env_file": "/nowhere"}}
    run.spec.write_text(json.dumps(frozen))
    before = run.events.read_text()
    with pytest.raises(Unavailable, match="executor slurm cannot run here"):
        run_campaign(run, toy_root, lambda _kind, _facts: None)
    assert run.events.read_text() == before
    run.events.unlink()
    with pytest.raises(Unavailable):
        run_campaign(run, toy_root, lambda _kind, _facts: None)
    assert events(run)[-1]["ending"] == "crashed", "one that never started says why"


def test_the_command_refuses_what_would_be_given_up(
    toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("OPENAI_API_KEY", "AZUREAI_OPENAI_API_KEY", "AZURE_OPENAI_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    spec = tmp_path / "spec.json"
    spec.write_text(lone_language_aar().model_dump_json())
    run = tmp_path / "run"
    code, out = finished(command(toy_root, "campaign", "run", str(spec), "--out", str(run)), 60)
    assert code == 2 and "OPENAI_API_KEY" in out and not run.exists()
    code, out = finished(command(toy_root, "campaign", "check", str(spec)), 60)
    assert code == 1 and "to do  line 1: OPENAI_API_KEY" in out


# ---------------------------------------------------------------- one list of endings
@pytest.mark.parametrize(
    ("endings", "stopped", "expected"),
    [
        (["finished", "budget"], False, Ending.FINISHED),
        (["budget", "budget"], False, Ending.BUDGET),
        (["finished", "budget"], True, Ending.STOPPED),
        (["stopped", "stopped"], False, Ending.STOPPED),
        (["stopped", "finished"], False, Ending.FINISHED),
        (["given_up", "finished"], True, Ending.PARTLY),
        (["given_up", "given_up"], False, Ending.GIVEN_UP),
        ([], False, Ending.FINISHED),
    ],
)
def test_a_campaigns_ending_follows_from_its_aars(
    endings: list[str], stopped: bool, expected: Ending
) -> None:
    made = [AarEnding(aar=f"a{n}", ending=Ending(each)) for n, each in enumerate(endings)]
    assert campaign_ending(made, stopped) is expected


@pytest.mark.parametrize(
    ("why", "expected"),
    [
        ("stopped by the operator", Ending.STOPPED),
        ("the operator stopped it", Ending.STOPPED),
        ("ada has used 1 of 1 hours: the budget is exhausted", Ending.BUDGET),
        ("the campaign's budget is used up: no dollars left", Ending.BUDGET),
        ("ada has used 2 of 2 submissions", Ending.BUDGET),
        ("all 3 trials are done", Ending.FINISHED),
        ("it finished by itself: the budget is used up", Ending.FINISHED),
    ],
)
def test_the_reason_of_an_aar_names_its_ending(why: str, expected: Ending, tmp_path: Path) -> None:
    assert ending_of(why) is expected
    run = RunDir(tmp_path)
    run.aar("ada").mkdir(parents=True)
    assert how_it_ended(run, "ada") is None
    save_state(run.aar("ada") / "state.json", AarState().ended(why))
    said = how_it_ended(run, "ada")
    assert said is not None and (said.ending, said.why) == (expected, why)


def test_foreign_words_are_one_plain_line() -> None:
    text = "[bold][blue]KEY[/blue][/bold]\n\x1b[31mred\u202e [/public] " + "x" * 5000
    shown = plain_reason(text)
    assert shown.startswith("KEY \ufffd[31mred\ufffd [/public] x") and len(shown) == 2000


def test_every_ending_has_words_and_only_good_ones_a_tick() -> None:
    css = Path(run_files.__file__).parent / "static" / "style.css"
    rules = css.read_text()
    for ending in Ending:
        assert ending.words and f".state.{ending.value}::before" in rules
    ticked = " ".join(re.findall(r'([^{}]*)\{ content: "✓ "', rules))
    assert {e.value for e in Ending if f".state.{e.value}::" in ticked} == {"finished", "budget"}


def test_a_campaign_that_left_no_end_was_interrupted(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    assert last_ending(path) is None
    path.write_text('{"at": "x", "kind": "campaign_started"}\n')
    assert last_ending(path) == (Ending.INTERRUPTED, "")
    with path.open("a") as out:
        out.write(('{"at": "x", "kind": "tick", "pad": "' + "y" * 900 + '"}\n') * 400)
    assert last_ending(path) == (Ending.INTERRUPTED, ""), "the start is beyond what is read"


def test_an_entry_about_an_aar_given_up_keeps_the_numbers(tmp_path: Path) -> None:
    state = {"session": 1, "turn": 4, "entries": 7, "outbox": []}
    (tmp_path / "loop.json").write_text(json.dumps(state))
    note_given_up(tmp_path, "given up")
    (entry,) = read_transcript(tmp_path / "transcript.jsonl")
    assert (entry.seq, entry.turn, entry.kind) == (8, 4, "error")
    kept = json.loads((tmp_path / "loop.json").read_text())
    assert kept["entries"] == 8 and kept["outbox"][0]["text"] == "given up"


# ---------------------------------------------------------------- restarts
class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def polled(child: Child) -> str:
    until = time.monotonic() + 20
    while time.monotonic() < until:
        if event := child.poll():
            return event
        time.sleep(0.01)
    raise AssertionError("nothing happened")


class Queue(LocalExecutor):
    """Starts nothing: a job that waits until it is let in."""

    is_in = False
    id = "34"

    def start(self, job: object) -> "Queue":
        return self

    def begun(self) -> bool:
        return self.is_in

    def poll(self) -> None:
        return None

    def stop(self, grace_s: float) -> None: ...


def test_a_job_in_the_queue_is_said_to_wait_and_to_begin(tmp_path: Path) -> None:
    clock, queue, run = Clock(), Queue(), RunDir(tmp_path)
    child = Child("ada", ["true"], tmp_path / "log", clock=clock, executor=queue)
    log = EventLog(run.events, lambda _kind, _facts: None)
    campaign = Campaign(run, DataRoot(tmp_path), toy_spec(), log, queue)
    supervisor = Supervisor(campaign, child, {"ada": child})
    child.start()
    assert child.poll() is None, "an engine takes a moment"
    clock.now += 60
    supervisor._tell(child, child.poll() or "")
    assert child.poll() is None, "it is said once"
    assert queued_jobs(run) == {"ada": "34"}
    queue.is_in = True
    supervisor._tell(child, child.poll() or "")
    assert child.poll() is None and queued_jobs(run) == {}
    assert [(e["kind"], e["job"]) for e in events(run)] == [
        ("process_queued", "34"),
        ("process_begun", "34"),
    ]


def test_the_verifier_ends_before_the_student_servers_that_it_asks(tmp_path: Path) -> None:
    """Else an interrupted campaign records that a method failed whose model was gone."""
    ended = list[str]()

    class Noted(Child):
        def stop(self) -> None:
            ended.append(self.name)

    server, ada, students, verifier = (
        Noted(name, ["true"], tmp_path / "log")
        for name in ("server", "ada", "students", "verifier")
    )
    log = EventLog(tmp_path / "events.jsonl", lambda _kind, _facts: None)
    campaign = Campaign(RunDir(tmp_path), DataRoot(tmp_path), toy_spec(), log)
    Supervisor(campaign, server, {"ada": ada}, beside=[students, verifier]).stop()
    assert ended == ["ada", "verifier", "students"]


def test_aars_of_a_pod_wait_with_it_and_a_new_start_forgets_the_queue(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.pod("pod-1").mkdir(parents=True)
    (run.pod("pod-1") / "pod.json").write_text(json.dumps({"aars": {"ada": "x", "rowan": "y"}}))
    log = EventLog(run.events, lambda _kind, _facts: None)
    log.add("process_queued", process="pod-1", job="7")
    assert queued_jobs(run) == {"ada": "7", "rowan": "7"}
    view = CampaignView(run, toy_spec(), Console(file=io.StringIO()))
    view.notify("process_queued", {"process": "pod-1", "job": "7"})
    assert view._how_far() == "at work: edda, human, guards; in the queue: rowan"
    log.add("campaign_started", name="toy")
    assert queued_jobs(run) == {}


def test_restarts_wait_longer_each_time_and_health_resets_the_count(tmp_path: Path) -> None:
    clock = Clock()
    settings = RestartSettings(first_s=2, factor=4, longest_s=60, healthy_s=600, most_crashes=4)
    child = Child(
        "x",
        ["sh", "-c", "exit 7"],
        tmp_path / "x.log",
        restarts=settings,
        jitter=lambda: 1.0,
        clock=clock,
    )
    child.start()
    waits = []
    for _ in range(4):
        assert polled(child) == "crashed"
        waits.append(child.wait_s)
        clock.now += child.wait_s - 0.01
        assert child.poll() is None, "not before its time"
        clock.now += 0.02
        assert polled(child) == "restarted"
    assert waits == [2, 8, 32, 60]
    clock.now += 600  # the fifth life was a healthy one
    assert polled(child) == "crashed" and child.crashes == 1
    for _ in range(3):
        clock.now += 61
        assert (polled(child), polled(child)) == ("restarted", "crashed")
    clock.now += 61
    assert (polled(child), polled(child)) == ("restarted", "failed")
    assert child.failed and child.died_of == "exit code 7"
    child.again()
    assert polled(child) == "crashed", "it is started afresh, with its count at 0"


def test_a_server_that_ends_by_itself_is_started_again(tmp_path: Path) -> None:
    clock = Clock()
    child = Child("server", ["true"], tmp_path / "x.log", clock=clock, endless=True)
    child.start()
    assert polled(child) == "crashed" and not child.finished and child.died_of == "exit code 0"
    clock.now += 60
    assert (polled(child), polled(child)) == ("restarted", "crashed")


def supervised(tmp_path: Path, server: list[str], verifier: list[str]) -> Supervisor:
    """Behind an external AAR that is awaited and never ends."""
    guest = AarSpec(name="guest", researcher="external")
    spec = toy_spec().model_copy(update={"aars": [guest]})
    run = RunDir(tmp_path)
    log = EventLog(run.events, lambda _kind, _facts: None)
    campaign = Campaign(run, DataRoot(tmp_path), spec, log)
    made = [
        Child(name, argv, tmp_path / f"{name}.log", restarts=QUICK)
        for name, argv in (("server", server), ("verifier", verifier))
    ]
    for child in made:
        child.start()
    return Supervisor(campaign, made[0], beside=[made[1]], guests={"guest": False})


@pytest.mark.timeout(60)
def test_a_server_that_cannot_be_kept_up_ends_the_wait(tmp_path: Path) -> None:
    words = ["sh", "-c", "echo 'no [bold]disk[/bold]'; exit 3"]
    supervisor = supervised(tmp_path, words, ["sleep", "60"])
    try:
        with pytest.raises(
            CrashedRepeatedly, match=r"died 3 times in a row .*exit code 3.*no disk"
        ):
            supervisor.wait(supervisor.research_over)
    finally:
        supervisor.stop()
    alerts = [event for event in events(RunDir(tmp_path)) if event["kind"] == "alert"]
    assert [(event["what"], event["about"]) for event in alerts] == [("process", "server")]


@pytest.mark.timeout(60)
def test_a_guest_is_not_awaited_behind_a_verifier_that_was_given_up(tmp_path: Path) -> None:
    supervisor = supervised(tmp_path, ["sleep", "60"], ["false"])
    try:
        supervisor.wait(supervisor.research_over)
    finally:
        supervisor.stop()
        supervisor.server.stop()
    alerts = [event for event in events(RunDir(tmp_path)) if event["kind"] == "alert"]
    assert [(event["what"], event["about"]) for event in alerts] == [("process", "verifier")]
