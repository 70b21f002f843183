"""What the Slurm executor makes of answers that a real cluster takes minutes to give.

`squeue`, `sbatch` and `scancel` are scripts here.
"""

import importlib
import os
from pathlib import Path
from types import ModuleType

import pytest

from aarlab.executors.base import Ended, Executor, Job, NotStarted, Place, Resources


class Commands:
    """Scripts on PATH in place of Slurm's commands."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.calls = folder, folder / "calls"
        self.put("sbatch", "echo 7")
        self.put("scancel", "")
        self.jobs()

    def put(self, name: str, text: str) -> None:
        path = self.folder / name
        path.write_text(f'#!/bin/sh\necho {name} "$@" >> {self.calls}\n{text}\n')
        path.chmod(0o755)

    def jobs(self, *rows: tuple[str, str, str, str, str]) -> None:
        widths = (20, 120, 24, 60, 20)
        lines = ["".join(f"{v:{w}}" for v, w in zip(row, widths, strict=True)) for row in rows]
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


@pytest.fixture
def module(installed_example: None) -> ModuleType:
    return importlib.import_module("aarlab_slurm")


def executor(module: ModuleType, folder: Path, **given: object) -> Executor:
    options = module.SlurmOptions.model_validate({"poll_s": 0.0, **given})
    made: Executor = module.SlurmExecutor(options, Place(folder / "executor"))
    return made


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
    commands: Commands, module: ModuleType, tmp_path: Path, state: str, reason: str, code: str,
    expected: Ended,
) -> None:  # fmt: skip
    handle = executor(module, tmp_path).start(job(tmp_path))
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


def test_a_silent_controller_says_nothing_about_a_job(
    commands: Commands, module: ModuleType, tmp_path: Path
) -> None:
    made = executor(module, tmp_path)
    handle = made.start(job(tmp_path))
    commands.silent()
    assert handle.poll() is None
    with pytest.raises(NotStarted, match="squeue: slurm_load_jobs error: Unable to contact"):
        made.start(job(tmp_path))
    with pytest.raises(NotStarted):
        made.leftovers()
    commands.jobs()
    assert handle.poll() == Ended(None, "Slurm does not know job 7 any more")


def test_a_submission_that_is_refused_says_why(
    commands: Commands, module: ModuleType, tmp_path: Path
) -> None:
    commands.put("sbatch", "echo 'sbatch: error: Batch job submission failed: closed' >&2; exit 1")
    with pytest.raises(NotStarted, match="submission failed: closed"):
        executor(module, tmp_path).start(job(tmp_path))


def test_a_job_of_that_name_is_ended_first_and_no_other(
    commands: Commands, module: ModuleType, tmp_path: Path
) -> None:
    made = executor(module, tmp_path)
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
    assert words[0] == "sbatch" and {"--export=NIL", "--no-requeue"} <= set(words)
    assert {"--cpus-per-task=2", "--gpus=1", "--mem=2048M", "--time=2"} <= set(words)


def test_a_file_of_keys_that_others_can_read_is_refused(
    commands: Commands, module: ModuleType, tmp_path: Path
) -> None:
    keys = tmp_path / "keys"
    keys.write_text("export KEY=1\n")
    made = executor(module, tmp_path, env_file=str(keys))
    (said,) = made.check(Resources())
    assert f"chmod 600 {keys}" in said
    keys.chmod(0o600)
    assert list(made.check(Resources())) == []
