"""What the Slurm executor makes of answers that a real cluster takes minutes to give.

`squeue`, `sbatch` and `scancel` are scripts here.
"""

import os
from pathlib import Path

import pytest

from aarlab.executors.base import Ended, Job, NotStarted, Place, Resources
from aarlab.executors.slurm import COMMANDS, SlurmExecutor, SlurmOptions


class Commands:
    """Scripts on PATH in place of Slurm's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.put("sbatch", "echo 7")
        self.put("scancel", "")
        self.put("scontrol", "")
        self.jobs()

    def put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{text}\n')
        path.chmod(0o755)

    def jobs(self, *rows: tuple[str, ...]) -> None:
        widths = (20, 120, 24, 60, 20, 12)
        whole = [row if len(row) == len(widths) else (*row, "0") for row in rows]
        lines = ["".join(f"{v:{w}}" for v, w in zip(row, widths, strict=True)) for row in whole]
        (self.folder / "jobs").write_text("".join(f"{line}\n" for line in lines))
        self.put("squeue", f"cat {self.folder}/jobs")

    def silent(self) -> None:
        self.put("squeue", "echo 'slurm_load_jobs error: Unable to contact controller' >&2; exit 1")


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Commands:
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return Commands(folder)


def executor(folder: Path, **given: object) -> SlurmExecutor:
    options = SlurmOptions.model_validate({"poll_s": 0.0, **given})
    return SlurmExecutor(options, Place(folder / "executor"))


def job(folder: Path) -> Job:
    return Job("ada", ("true",), folder / "log", {}, Resources(2, 1, 2048, 90.0))


@pytest.mark.parametrize(
    ("state", "reason", "code", "expected"),
    [
        ("TIMEOUT", "TimeLimit", "0", Ended(None, "Slurm: TIMEOUT (TimeLimit)")),
        ("NODE_FAIL", "NodeDown", "0", Ended(None, "Slurm: NODE_FAIL (NodeDown)")),
        ("PREEMPTED", "None", "0", Ended(None, "Slurm: PREEMPTED")),
        ("OUT_OF_MEMORY", "OutOfMemory", "137", Ended(None, "Slurm: OUT_OF_MEMORY (OutOfMemory)")),
        ("CANCELLED", "None", "0", Ended(None, "Slurm: CANCELLED")),
        ("FAILED", "NonZeroExitCode", str(78 << 8), Ended(78)),
        ("COMPLETED", "None", "0", Ended(0)),
    ],
)
def test_a_job_that_slurm_ends_never_counts_as_finished(
    commands: Commands, tmp_path: Path, state: str, reason: str, code: str,
    expected: Ended,
) -> None:  # fmt: skip
    handle = executor(tmp_path).start(job(tmp_path))
    commands.jobs(("7", "x", "PENDING", "Resources", "0"))
    assert handle.poll() is None and not handle.begun()
    commands.jobs(("7", "x", "RUNNING", "None", "0"))
    assert handle.poll() is None and handle.begun()
    commands.jobs(("7", "x", "COMPLETING", reason, code))
    assert handle.poll() is None, "its processes may still be there"
    commands.jobs(("7", "x", state, reason, code))
    assert handle.poll() == expected
    commands.jobs()
    assert handle.poll() == expected


def test_a_silent_controller_says_nothing_about_a_job(commands: Commands, tmp_path: Path) -> None:
    made = executor(tmp_path)
    handle = made.start(job(tmp_path))
    commands.silent()
    assert handle.poll() is None
    with pytest.raises(NotStarted, match="squeue: slurm_load_jobs error: Unable to contact"):
        made.start(job(tmp_path))
    with pytest.raises(NotStarted):
        made.leftovers()
    commands.jobs()
    assert handle.poll() == Ended(None, "Slurm does not know job 7 any more")


def test_a_submission_that_is_refused_says_why(commands: Commands, tmp_path: Path) -> None:
    commands.put("sbatch", "echo 'sbatch: error: Batch job submission failed: closed' >&2; exit 1")
    with pytest.raises(NotStarted, match="submission failed: closed"):
        executor(tmp_path).start(job(tmp_path))


def test_a_job_of_that_name_is_ended_first_and_no_other(commands: Commands, tmp_path: Path) -> None:
    made = executor(tmp_path)
    name = f"aarlab-{Place(tmp_path / 'executor').campaign()}-ada"
    rows = [("5", name, "RUNNING", "None", "0"), ("6", f"{name}-2", "RUNNING", "None", "0")]
    commands.jobs(*rows, ("8", "aarlab-other-ada", "RUNNING", "None", "0"))
    assert [(n, handle.id) for n, handle in made.leftovers()] == [("ada", "5"), ("ada-2", "6")]
    end = f"sed -i 's/^5  \\(.*\\)RUNNING  /5  \\1CANCELLED/' {commands.folder}/jobs"
    commands.put("scancel", end)
    assert made.start(job(tmp_path)).id == "7"
    calls = [line.split() for line in commands.calls.read_text().splitlines()]
    ends = [call[1:] for call in calls if call[0] == "scancel"]
    assert {call[-1] for call in ends} == {"5"}
    words = calls[-1]
    assert words[0] == "sbatch" and {"--export=NIL", "--requeue", "--open-mode=append"} <= set(
        words
    )
    assert {"--cpus-per-task=2", "--gpus=1", "--mem=2048M", "--time=2"} <= set(words)
    assert not [word for word in words if word.startswith("--signal")], "it would come at once"


def test_a_file_of_keys_that_others_can_read_is_refused(commands: Commands, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("export KEY=1\n")
    made = executor(tmp_path, env_file=str(keys))
    (said,) = made.check(Resources())
    assert f"chmod 600 {keys}" in said
    keys.chmod(0o600)
    assert list(made.check(Resources())) == []


def test_a_file_of_keys_that_jobs_would_not_find_is_refused(
    commands: Commands, tmp_path: Path
) -> None:
    wrong = {
        str(tmp_path / "keys"): "is not there: write lines NAME=VALUE into it",
        str(tmp_path): "is not a file that this user can read",
        "keys": f"must be a whole path, the same on all nodes: {Path.cwd() / 'keys'}",
        "~/keys": f"must be a whole path, the same on all nodes: {Path.home() / 'keys'}",
    }
    for name, why in wrong.items():
        (said,) = executor(tmp_path, env_file=name).check(Resources())
        assert f"env_file: {name}" in said and why in said


def test_a_job_that_is_queued_again_waits_no_two_minutes(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarlab.executors.slurm.HURRY_S", 0.0)

    def updates() -> int:
        said = commands.calls.read_text().splitlines()
        return said.count("scontrol update JobId=7 StartTime=now")

    handle = executor(tmp_path).start(job(tmp_path))
    commands.jobs(("7", "x", "PENDING", "BeginTime", "0", "0"))
    assert handle.poll() is None and updates() == 0, "the operator asked for that with --begin"
    commands.jobs(("7", "x", "RUNNING", "None", "0", "0"))
    assert handle.poll() is None
    for again in ("1", "2"):
        commands.jobs(("7", "x", "PENDING", "None", "0", again))  # the reason comes later
        commands.put("scontrol", "exit 1")
        assert handle.poll() is None, "the controller did not take it: it is asked again"
        commands.put("scontrol", "")
        assert [handle.poll(), handle.poll()] == [None, None]
        assert updates() == 2 * int(again), "until it is taken, for each time"
    assert handle.begun()


def test_a_job_that_slurm_holds_after_failed_starts_is_ended(
    commands: Commands, tmp_path: Path
) -> None:
    handle = executor(tmp_path).start(job(tmp_path))
    commands.jobs(("7", "x", "PENDING", "JobHeldUser", "0", "0"))
    assert handle.poll() is None
    assert "scancel" not in commands.calls.read_text(), "a person holds it"
    commands.jobs(("7", "x", "PENDING", "launch failed requeued held", "0", "1"))
    assert handle.poll() is None
    assert "scancel 7" in commands.calls.read_text().splitlines()


def test_a_long_job_gets_notice_of_its_time_limit(commands: Commands, tmp_path: Path) -> None:
    for limit_s in (None, 86_400.0):
        made = Job("ada", ("true",), tmp_path / "log", {}, Resources(time_limit_s=limit_s))
        executor(tmp_path).start(made)
        assert "--signal=B:USR1@120" in commands.calls.read_text().splitlines()[-1].split()


@pytest.mark.parametrize("missing", COMMANDS)
def test_a_command_that_is_missing_is_named_with_the_remedy(
    commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    (commands.folder / missing).unlink()
    monkeypatch.setenv("PATH", str(commands.folder))
    made = executor(tmp_path)
    said = f"{missing} is not found: install Slurm's commands on this machine, or put them on PATH"
    assert list(made.check(Resources())) == [said]
    if missing == "sbatch":
        commands.put("squeue", ":")
        with pytest.raises(NotStarted, match="sbatch is not found"):
            made.start(job(tmp_path))
