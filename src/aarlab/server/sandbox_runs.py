"""Run a method's code in the platform's sandbox: checked on toy tasks, or run on public rows.

Covered: bubblewrap and no weaker sandbox; no network, no socket, no file other than the method's
own, the public task (trial) and the strong model if the task provides it; a uid of its own; output
is read as foreign data.
"""

import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from pydantic import ValidationError

from aarlab.agents.trial import ONE_THREAD, MethodView, take_output
from aarlab.agents.trial import method_view as method_view
from aarlab.core.errors import BadInput, MethodFailed, NotFound
from aarlab.core.foreign import read_json
from aarlab.core.ids import new_id
from aarlab.core.layout import RunDir
from aarlab.core.wire_service import MethodCheck, MethodFault, SeedFacts
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import (
    VERIFIERS,
    campaign_uid,
    copy_in,
    copy_out,
    discard_tree,
    prepare_workspace,
)
from aarlab.testbed.running.checking import Report
from aarlab.testbed.running.job import Job, JobOutput, SeedPair

MAX_REPORT_BYTES, MAX_ERROR, MAX_FACTS = 1 << 17, 4000, 40
SLOT = len(VERIFIERS) - 1  # verifiers are numbered from 0
Files = Mapping[str, bytes]


@dataclass(frozen=True)
class Place:
    """The campaign folder of a run, its time limit in seconds, and the event that cancels it."""

    run: RunDir
    wall_s: float
    cancel: threading.Event


@dataclass(frozen=True)
class Asked:
    """The runs that a trial must make, and the row ids of the search split."""

    runs: Sequence[SeedPair]
    ids: Sequence[str]

    def check(self, output: JobOutput) -> None:
        """Raise MethodFailed unless the output has the requested rows and seeds.

        A method may leave anything in place of its predictions.
        """
        right = [(pair.seed, len(self.ids)) for pair in self.runs]
        made = [(run.seed, len(run.probs)) for run in output.runs]
        if output.ids != [*self.ids] or made != right or len(output.records) != len(right):
            raise MethodFailed("its predictions are not of the rows and seeds that were asked for")


@dataclass(frozen=True)
class Ran:
    """The result of a trial: `output` is None if the method failed, and `error` says why."""

    seconds: float
    output: JobOutput | None
    error: str = ""

    @property
    def seeds(self) -> list[SeedFacts]:
        """Return the cost of each run and its diagnostics, which need no label."""
        return [
            SeedFacts(
                seed=one.seed,
                teacher_seed=one.teacher_seed,
                seconds=one.seconds,
                compute=_first(one.compute),
                diagnostics=_first(one.diagnostics),
            )
            for one in (() if self.output is None else self.output.records)
        ]


def check_in_sandbox(place: Place, files: Files) -> MethodCheck:
    """Run `aarlab method check` on these files; raises SandboxUnavailable."""
    with _sandbox(place, None) as spec:
        inside = spec.seen_workspace
        copy_in(spec, {f"method/{path}": content for path, content in files.items()})
        words = [
            "-m",
            "aarlab.testbed.running.checking",
            str(inside / "method"),
            str(inside / "out.json"),
        ]
        done = run(spec, [sys.executable, "-P", *words], cancel=place.cancel)
        try:
            read = read_json(copy_out(spec, "out.json", MAX_REPORT_BYTES), "the check's report")
            report = Report.model_validate(read)
        except (NotFound, BadInput, ValidationError):
            error = f"the method ended the check: {_ended(spec, done)}"
            return MethodCheck(
                keeps_contract=False, findings=[], error=error[:MAX_ERROR], seconds=done.wall_s
            )
        findings = [MethodFault(**one.model_dump()) for one in report.findings]
        return MethodCheck(
            keeps_contract=not report.violations, findings=findings, seconds=done.wall_s
        )


def try_in_sandbox(place: Place, files: Files, view: MethodView, asked: Asked) -> Ran:
    """Predict the search split from public rows. Raises SandboxUnavailable."""
    with _sandbox(place, view) as spec:
        inside = spec.seen_workspace
        job = Job(
            method=inside / "method",
            public=view.public_in(spec),
            model=view.model_in(spec),
            runs=[*asked.runs],
        )
        method = {f"method/{path}": content for path, content in files.items()}
        copy_in(spec, {**method, "job.json": job.model_dump_json().encode()})
        words = [
            "-m",
            "aarlab.testbed.running.run_method",
            str(inside / "job.json"),
            str(inside / "out"),
        ]
        done = run(spec, [sys.executable, "-P", *words], cancel=place.cancel)
        try:
            output = take_output(spec, "out", done)
            asked.check(output)
            return Ran(done.wall_s, output)
        except MethodFailed as error:
            return Ran(done.wall_s, None, str(error)[:MAX_ERROR])


def _first(facts: Mapping[str, float]) -> dict[str, float]:
    """Return the first MAX_FACTS figures, with names of at most 60 characters.

    They are limited because a method may have written the file itself.
    """
    return {name[:60]: value for name, value in [*facts.items()][:MAX_FACTS]}


@contextmanager
def _sandbox(place: Place, view: MethodView | None) -> Iterator[SandboxSpec]:
    uid = campaign_uid(place.run.path, SLOT, VERIFIERS)
    workspace = place.run.verifier / new_id("trial")
    prepare_workspace(workspace, uid)
    limits = SandboxLimits(wall_s=place.wall_s, cpu_s=2 * place.wall_s)
    try:
        yield SandboxSpec(
            workspace=workspace,
            read_only={} if view is None else view.read_only,
            limits=limits if view is None else view.limits(place.wall_s),
            uid=uid,
            env=ONE_THREAD,
        )
    finally:
        discard_tree(workspace)


def _ended(spec: SandboxSpec, done: Finished) -> str:
    if done.killed_by is not None:
        return (
            f"it passed the {done.killed_by} limit ({spec.limits.wall_s:.0f} s, "
            f"{spec.limits.memory_mb} MB)"
        )
    return f"exit code {done.returncode}: {done.stderr.decode(errors='replace').strip()[-1500:]}"
