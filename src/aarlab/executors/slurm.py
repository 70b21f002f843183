"""Run AARs as batch jobs of Slurm, by its commands sbatch, squeue and scancel alone.

Assumed: the run's folder, the data root and the Python environment have the same paths on all
nodes, and one ordinary user owns them. Where AARs run on other nodes than the campaign, `host` is
the address of the campaign's machine, which they reach over TCP with TLS.

A job whose node is lost, or that is preempted, is queued again by Slurm under the same id, and so
is one whose time limit comes near. That is no crash. The platform refuses what an older copy does
that lives on (core.supervision).

Covered: a submission that fails; jobs that wait; jobs that Slurm ends (time limit, memory,
preemption, lost node); a job that Slurm holds after failed starts; a controller that does not
answer; a campaign killed with jobs running; variables of the campaign in Slurm's files (none).
Not covered: a shared folder that a node no longer reaches.
"""

import os
import shlex
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import suppress
from itertools import accumulate
from typing import ClassVar

from pydantic import Field

from aarlab.executors.base import (
    LEFT,
    Ended,
    Executor,
    Job,
    NotStarted,
    Options,
    Place,
    Resources,
    variables_lack,
)

ANSWER_S = 60.0
GONE_S = 120.0  # Slurm's KillWait, 30 s by default, and the end of a job on a slow node
NOTICE_S = 120  # USR1 comes so long before the time limit, and up to 60 s earlier still
HURRY_S = 3.0  # slurmd refuses a job that starts in the second of its last kill: "already killed"
LEAST_LIMIT_S = 600.0  # of a job that gets a notice: Slurm would give it to a shorter one at once
COMMANDS = ("sbatch", "squeue", "scancel", "scontrol")
FIELDS = {
    **{"JobID": 20, "Name": 120, "State": 24, "Reason": 60},
    **{"exit_code": 20, "RestartCnt": 12},
}
AGAIN = """\
if [ "${SLURM_RESTART_COUNT:-0}" -gt 0 ]; then
  echo "job $SLURM_JOB_ID was queued again $SLURM_RESTART_COUNT times; now on $SLURMD_NODENAME" >&2
fi"""
HELD = {"JobHoldMaxRequeue", "launch_failed_requeued_held"}
WAITING = {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED"}
OVER = {
    *("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "DEADLINE", "NODE_FAIL", "BOOT_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "SPECIAL_EXIT"),
}


class SlurmOptions(Options):
    """`env_file` sets variables of the jobs, such as model keys; only its owner may read it.

    The environment of the campaign is not handed on: Slurm would store it.
    """

    partition: str | None = None
    extra: tuple[str, ...] = ()
    env_file: str | None = None
    host: str | None = None
    poll_s: float = Field(default=2.0, ge=0)


class SlurmExecutor(Executor):
    """Submit a batch job for each AAR; squeue is asked once for all of them."""

    options: ClassVar[type[Options]] = SlurmOptions
    separation: ClassVar[str] = "batch jobs of the same user, on nodes that Slurm chooses"

    def __init__(self, options: Options, place: Place) -> None:
        assert isinstance(options, SlurmOptions)
        self.given, self._place = options, place
        self._rows: dict[str, dict[str, str]] = {}
        self._listed_at = self._tried_at = float("-inf")

    @property
    def platform_host(self) -> str | None:
        return self.given.host

    def check(self, resources: Resources) -> Iterator[str]:
        if missing := [name for name in COMMANDS if shutil.which(name) is None]:
            return (yield _no_command(missing[0]))
        file = self.given.env_file
        if file is not None and (lack := variables_lack(file)) is not None:
            yield lack
        wants = self._wants(resources)
        try:
            self._call("sbatch", "--test-only", *wants, script="#!/bin/sh\n")
        except NotStarted as error:
            yield f"{error} (asked for: {' '.join(wants)})"

    def start(self, job: Job) -> "SlurmHandle":
        """Submit the job. One of that name that still runs is ended first."""
        for handle in (each for name, each in self.leftovers() if name == job.name):
            handle.stop(0.0)
            if handle.poll() is None:
                raise NotStarted(f"job {handle.id} of {job.name} does not end")
        log = str(job.log.absolute()).replace("%", "%%")
        words = ["--requeue", "--export=NIL", f"--job-name={self._name(job.name)}"]
        words += [f"--output={log}", "--open-mode=append", *self._wants(job.resources)]
        said = self._call("sbatch", "--parsable", *words, script=self._script(job))
        return SlurmHandle(self, said.strip().partition(";")[0])

    def leftovers(self) -> list[tuple[str, "SlurmHandle"]]:
        self._list()
        rows, start = self._rows.values(), self._name("")
        live = [r for r in rows if r["Name"].startswith(start) and r["State"] not in OVER]
        return [(r["Name"].removeprefix(start), SlurmHandle(self, r["JobID"])) for r in live]

    def row(self, job: str, since: float) -> dict[str, str] | None:
        """Return what squeue said of a job: empty if it knows none, None if not asked `since`."""
        now = time.monotonic()
        if now - self._tried_at >= self.given.poll_s or self._tried_at < since:
            self._tried_at = now
            with suppress(NotStarted):  # the controller is silent: what it said last counts
                self._list()
        return self._rows.get(job, {}) if self._listed_at >= since else None

    def cancel(self, job: str, *words: str) -> None:
        """Ask Slurm to end a job; one that has ended, or a silent controller, is not an error."""
        with suppress(NotStarted):
            self._call("scancel", *words, job)

    def start_now(self, job: str) -> bool:
        """Take the two minutes off a job that Slurm queued again; False if that fails for now."""
        try:
            self._call("scontrol", "update", f"JobId={job}", "StartTime=now")
        except NotStarted:
            return False
        return True

    def _list(self) -> None:
        asked_at = time.monotonic()
        fields = ",".join(f"{name}:{width}" for name, width in FIELDS.items())
        said = self._call("squeue", "--me", "--noheader", "--states=all", f"--Format={fields}")
        self._rows, self._listed_at = {}, asked_at
        starts = accumulate(FIELDS.values(), initial=0)
        parts = [(name, at, at + FIELDS[name]) for name, at in zip(FIELDS, starts, strict=False)]
        for line in filter(None, said.split("\n")):
            row = {name: line[at:end].strip() for name, at, end in parts}
            self._rows[row["JobID"]] = row

    def _name(self, job: str) -> str:
        return f"aarlab-{self._place.campaign()}-{job}"

    def _wants(self, resources: Resources) -> list[str]:
        limit_s = resources.time_limit_s
        wanted = {
            "partition": self.given.partition,
            "cpus-per-task": resources.cpus,
            "gpus": resources.gpus,
            "mem": None if resources.memory_mb is None else f"{resources.memory_mb}M",
            "time": None if limit_s is None else max(1, round(limit_s / 60)),
        }
        words = [f"--{name}={value}" for name, value in wanted.items() if value is not None]
        if limit_s is None or limit_s >= LEAST_LIMIT_S:
            words.append(f"--signal=B:USR1@{NOTICE_S}")
        return [*words, *self.given.extra]  # such as --account=NAME

    def _script(self, job: Job) -> str:
        """Return a script that ends as the job does, or queues it again where it gave way.

        A job that got no device sees none: without a variable it would see all of its node. That of
        CUDA counts for cards of AMD as well, so it is left alone where Slurm set theirs.
        """
        lines = [f"export {name}={shlex.quote(value)}" for name, value in job.env.items()]
        none = 'export CUDA_VISIBLE_DEVICES="${CUDA_VISIBLE_DEVICES-}"'
        lines.append(f'[ -n "${{ROCR_VISIBLE_DEVICES+x}}" ] || {none}')
        if self.given.env_file is not None:
            lines.append(f"set -a; . {shlex.quote(self.given.env_file)}; set +a")
        scontrol = shlex.quote(shutil.which("scontrol") or "scontrol")
        # USR1 reaches the shell alone, TERM the job as well; `wait` returns at a signal of the
        # shell's own.
        run = f"""\
trap : TERM USR1
{shlex.join(job.argv)} &
child=$!
trap 'kill -USR1 "$child"' USR1
while wait "$child"; status=$?; kill -0 "$child" 2>/dev/null; do :; done
trap - TERM USR1
if [ "$status" -eq {LEFT} ]; then
  {scontrol} requeue "$SLURM_JOB_ID"
elif [ "$status" -gt 128 ]; then
  kill -"$((status - 128))" $$
fi
exit "$status"
"""
        return "\n".join(["#!/bin/sh", *lines, AGAIN, run])

    def _call(self, *words: str, script: str = "") -> str:
        try:
            sent = script.encode()
            done = subprocess.run(words, input=sent, capture_output=True, timeout=ANSWER_S)
        except FileNotFoundError:
            raise NotStarted(_no_command(words[0])) from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise NotStarted(f"{words[0]}: {error}") from error
        if done.returncode != 0:
            raise NotStarted(f"{words[0]}: {' '.join(done.stderr.decode().split())[-500:]}")
        return done.stdout.decode()


class SlurmHandle:
    """One job, by its id."""

    def __init__(self, executor: SlurmExecutor, job: str) -> None:
        self.id = job
        self._executor, self._since = executor, time.monotonic()
        self._begun = False
        self._again = 0  # times that Slurm queued it again
        self._hurry_at: float | None = None
        self._ended: Ended | None = None

    def begun(self) -> bool:
        return self._begun

    def poll(self) -> Ended | None:
        if self._ended is None and (row := self._executor.row(self.id, self._since)) is not None:
            state = row.get("State", "LOST")
            self._begun = self._begun or state not in WAITING
            if state in WAITING:
                self._hurry(row)
            elif state == "LOST":
                self._ended = Ended(None, f"Slurm does not know job {self.id} any more")
            elif state in OVER:
                self._ended = _ended(row)
        return self._ended

    def _hurry(self, row: dict[str, str]) -> None:
        """Mend what keeps a job waiting that Slurm queued again, once for each time."""
        if row["Reason"].replace(" ", "_") in HELD:
            self._executor.cancel(self.id)  # it will have ended, and the campaign starts another
            return
        if row["State"] != "PENDING":
            return
        if (again := int(row["RestartCnt"] or 0)) > self._again:
            self._again, self._hurry_at = again, time.monotonic() + HURRY_S
        if (
            self._hurry_at is not None
            and time.monotonic() >= self._hurry_at
            and self._executor.start_now(self.id)
        ):
            self._hurry_at = None

    def stop(self, grace_s: float) -> None:
        if self.poll() is not None:
            return
        self._executor.cancel(self.id)
        if not self._gone(grace_s):
            self._executor.cancel(self.id, "--signal=KILL", "--full")
            self._gone(GONE_S)

    def _gone(self, within_s: float) -> bool:
        until = time.monotonic() + within_s
        while time.monotonic() < until:
            self._since = time.monotonic()
            if self.poll() is not None:
                return True
            time.sleep(0.2)
        return False


def _no_command(name: str) -> str:
    return f"{name} is not found: install Slurm's commands on this machine, or put them on PATH"


def _ended(row: dict[str, str]) -> Ended:
    """Only a job that ended by itself has an exit code: one that Slurm ends may exit with 0."""
    state, reason = row["State"], row["Reason"]
    if state == "COMPLETED":
        return Ended(0)
    if state == "FAILED" and row["exit_code"].isdigit():
        return Ended(os.waitstatus_to_exitcode(int(row["exit_code"])))
    return Ended(None, f"Slurm: {state}" + ("" if reason in ("None", state) else f" ({reason})"))
