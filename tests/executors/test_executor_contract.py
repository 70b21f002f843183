"""What every executor keeps: the same tests for each of the built-in ones."""

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from slurm import Slurm

from aarlab.campaign.processes import GIVEN_UP, Child
from aarlab.campaign.settings import RestartSettings
from aarlab.executors.base import Ended, Executor, Handle, Job, NotStarted, Place, Resources
from aarlab.executors.known import executor_class

QUICK = RestartSettings(first_s=0.05, factor=1, longest_s=0.1, healthy_s=60, most_crashes=1)


def made(name: str, folder: Path) -> Executor:
    kind = executor_class(name)
    given = {} if name == "local" else {"poll_s": 0.2}
    return kind(kind.options.model_validate(given), Place(folder))


ENGINES = {"slurm": "slurm", "ray": "ray_cluster"}  # the fixture that starts it


@pytest.fixture(params=["local", "slurm", pytest.param("ray", marks=pytest.mark.slow)])
def executor(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Executor]:
    if request.param in ENGINES:
        request.getfixturevalue(ENGINES[request.param])
    executor = made(request.param, tmp_path / "executor")
    yield executor
    for _, handle in executor.leftovers():
        handle.stop(0.5)
    executor.close()


# What takes seconds of a scheduler is in the gate; Slurm keeps the other half of the contract here.
LONG = pytest.mark.parametrize(
    "executor",
    [
        "local",
        pytest.param("slurm", marks=pytest.mark.gate),
        pytest.param("ray", marks=pytest.mark.slow),
    ],
    indirect=True,
)


def shell(folder: Path, text: str, name: str = "ada", **env: str) -> Job:
    return Job(name, ("sh", "-c", text), folder / f"{name}.log", env)


def ended(handle: Handle, within_s: float = 30) -> Ended:
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        if (end := handle.poll()) is not None:
            return end
        time.sleep(0.02)
    raise AssertionError("it does not end")


def appears(path: Path, within_s: float = 20) -> str:
    until = time.monotonic() + within_s
    while not path.exists() or not path.read_text().endswith("\n"):
        assert time.monotonic() < until, f"no {path}"
        time.sleep(0.02)
    return path.read_text()


@pytest.mark.parametrize("code", [0, 1, GIVEN_UP])
def test_a_job_ends_with_its_exit_code(executor: Executor, tmp_path: Path, code: int) -> None:
    handle = executor.start(shell(tmp_path, f"exit {code}"))
    assert ended(handle) == Ended(code) == handle.poll()
    assert handle.begun() or code is not None
    handle.stop(1.0)
    assert handle.poll() == Ended(code)


def test_a_job_that_a_signal_ends_says_which(executor: Executor, tmp_path: Path) -> None:
    assert ended(executor.start(shell(tmp_path, "kill -9 $$"))).code == -signal.SIGKILL


def test_words_are_kept_as_they_are_and_output_is_appended(
    executor: Executor, tmp_path: Path
) -> None:
    odd = "a 'b' \"c\" $HOME `x` %j\n* ünï"
    log = tmp_path / "odd %j.log"
    log.write_text("before\n")
    script = "import sys; print(ascii(sys.argv[1])); print('err', file=sys.stderr)"
    job = Job("odd", (sys.executable, "-c", script, odd), log)
    assert ended(executor.start(job)) == Ended(0)
    lines = log.read_text().splitlines()
    assert lines[0] == "before" and set(lines[1:]) == {ascii(odd), "err"}


def test_additions_reach_the_environment(executor: Executor, tmp_path: Path) -> None:
    value = "a 'quoted' $word"
    job = shell(tmp_path, 'printf "%s\\n" "$ADDED" > seen', ADDED=value)
    job = Job(job.name, ("sh", "-c", f"cd {tmp_path}; {job.argv[2]}"), job.log, job.env)
    assert ended(executor.start(job)) == Ended(0)
    assert (tmp_path / "seen").read_text() == value + "\n"


def lives(pid: int) -> bool:
    """Whether a process runs. One that has ended may wait for its parent to notice."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_stop_asks_first(executor: Executor, tmp_path: Path) -> None:
    text = f"trap 'echo asked > {tmp_path}/asked; exit 0' TERM; echo up > {tmp_path}/up; "
    handle = executor.start(shell(tmp_path, text + "while :; do sleep 0.05; done"))
    appears(tmp_path / "up")
    handle.stop(10.0)
    assert appears(tmp_path / "asked") == "asked\n" and handle.poll() is not None


@LONG
def test_stop_ends_one_that_does_not_listen(executor: Executor, tmp_path: Path) -> None:
    text = f"trap '' TERM; echo $$ > {tmp_path}/up; while :; do sleep 0.05; done"
    handle = executor.start(shell(tmp_path, text))
    pid = int(appears(tmp_path / "up"))
    began = time.monotonic()
    handle.stop(0.5)
    assert handle.poll() is not None and handle.begun() and time.monotonic() - began < 15
    assert not lives(pid)


@LONG
def test_two_campaigns_do_not_see_each_others_jobs(executor: Executor, tmp_path: Path) -> None:
    kind = type(executor).__name__.removesuffix("Executor").lower()
    mine = [executor.start(shell(tmp_path, "sleep 60", name)) for name in ("ada", "ada-2")]
    other = made(kind, tmp_path / "other")
    assert list(other.leftovers()) == []
    assert ended(other.start(shell(tmp_path, "exit 0", "ada"))) == Ended(0)
    other.close()
    assert [handle.poll() for handle in mine] == [None, None]
    for handle in mine:
        handle.stop(0.5)


@LONG
def test_supervision_restarts_a_crash_and_keeps_the_last_words(
    executor: Executor, tmp_path: Path
) -> None:
    argv = ["sh", "-c", "echo no disk; exit 3"]
    child = Child("ada", argv, tmp_path / "ada.log", restarts=QUICK, executor=executor)
    child.start()
    events, until = [], time.monotonic() + 60
    while not child.failed and time.monotonic() < until:
        events += [event] if (event := child.poll()) else []
        time.sleep(0.02)
    assert events == ["crashed", "restarted", "failed"]
    assert (child.died_of, child.last_words()) == ("exit code 3", "no disk\nno disk")


# ---------------------------------------------------------------- above the seam
class Flaky(Executor):
    """Cannot start anything at first; then its jobs wait in a queue and are lost."""

    separation = "none"

    def __init__(self) -> None:
        self.tries, self.running, self.end = 0, False, None

    id = "7"

    def start(self, job: Job) -> "Flaky":
        self.tries += 1
        if self.tries == 1:
            raise NotStarted("the queue is closed")
        self.end = None
        return self

    def begun(self) -> bool:
        return self.running

    def poll(self) -> Ended | None:
        return self.end

    def stop(self, grace_s: float) -> None:
        self.end = Ended(None, "stopped")


def test_what_cannot_be_started_is_a_crash_with_its_reason(tmp_path: Path) -> None:
    now = [0.0]
    settings = RestartSettings(first_s=1, factor=1, longest_s=1, healthy_s=100, most_crashes=2)
    flaky = Flaky()
    child = Child(
        "ada", ["true"], tmp_path / "log", restarts=settings, executor=flaky, clock=lambda: now[0]
    )
    child.start()
    assert (child.poll(), child.died_of) == ("crashed", "the queue is closed")
    now[0] = 2.0
    assert child.poll() == "restarted" and flaky.tries == 2
    now[0] += 500  # in the queue: that is no healthy life
    assert (child.poll(), child.poll()) == ("queued", None)
    flaky.end = Ended(None, "node lost")
    assert (child.poll(), child.died_of, child.crashes) == ("crashed", "node lost", 2)
    now[0] += 2
    assert child.poll() == "restarted"
    flaky.running = True
    assert child.poll() is None, "it was not said to be queued"
    now[0] += 500  # running: the count begins again
    flaky.end = Ended(None, "node lost")
    assert (child.poll(), child.crashes) == ("crashed", 1)


def test_a_local_job_dies_with_the_process_that_started_it(tmp_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from aarlab.executors.base import Job; from aarlab.executors.local import LocalExecutor\n"
        f"here = Path({str(tmp_path)!r})\n"
        "job = Job('ada', ('sh', '-c', f'echo $$ > {here}/up; exec sleep 60'), here / 'log')\n"
        "LocalExecutor().start(job); time.sleep(60)\n"
    )
    parent = Job("parent", (sys.executable, "-c", script), tmp_path / "parent.log")
    handle = made("local", tmp_path).start(parent)
    pid = int(appears(tmp_path / "up"))
    os.kill(int(handle.id.removeprefix("pid ")), signal.SIGKILL)
    assert ended(handle) == Ended(-signal.SIGKILL)
    until = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < until:
        time.sleep(0.02)
    assert not psutil.pid_exists(pid)


def test_resources_are_checked_before_a_campaign_starts(slurm: Slurm, tmp_path: Path) -> None:
    executor = made("slurm", tmp_path)
    assert list(executor.check(Resources(cpus=2, memory_mb=1024, time_limit_s=600))) == []
    (said,) = executor.check(Resources(cpus=4000))
    assert said.startswith("sbatch: ") and "configuration is not available" in said
    assert "(asked for: --cpus-per-task=4000 " in said


@pytest.mark.gate
def test_a_job_that_gives_way_to_a_notice_starts_again(slurm: Slurm, tmp_path: Path) -> None:
    """As before its time limit; the handle is that of one job all the time."""
    text = (
        f"test -e {tmp_path}/up && exit 0; trap 'exit 138' USR1; echo up > {tmp_path}/up; "
        "while :; do sleep 0.05; done"
    )
    handle = made("slurm", tmp_path).start(shell(tmp_path, text))
    appears(tmp_path / "up")
    assert handle.poll() is None
    slurm.say("scancel", "--signal=USR1", "--batch", handle.id)
    assert ended(handle, 60) == Ended(0)
    log = (tmp_path / "ada.log").read_text()
    assert f"job {handle.id} was queued again 1 times; now on n1" in log


def test_a_job_without_a_device_sees_none(slurm: Slurm, tmp_path: Path) -> None:
    text = (
        f'echo "[$CUDA_VISIBLE_DEVICES]" > {tmp_path}/seen; test -n "${{CUDA_VISIBLE_DEVICES+x}}"'
    )
    handle = made("slurm", tmp_path).start(shell(tmp_path, text))
    assert ended(handle) == Ended(0)
    assert (tmp_path / "seen").read_text() == "[]\n"


def test_the_variable_of_cuda_is_left_alone_for_cards_of_amd(slurm: Slurm, tmp_path: Path) -> None:
    """An empty one would hide the cards that Slurm gave by ROCm's variable."""
    text = f'echo "${{CUDA_VISIBLE_DEVICES-unset}}" > {tmp_path}/seen'
    job = shell(tmp_path, text, ROCR_VISIBLE_DEVICES="0")
    assert ended(made("slurm", tmp_path).start(job)) == Ended(0)
    assert (tmp_path / "seen").read_text() == "unset\n"
