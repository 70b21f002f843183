"""Try a method in an AAR's sandbox: `python -m aarlab.testbed.running.trying METHOD OUT [options]`.

It writes OUT/job.json and does what `run_method` does with it: OUT/predictions.json on the search
split, or OUT/error.json and exit code 1. The public weak teachers take turns over the seeds.
"""

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

from aarlab.core.errors import AarlabError
from aarlab.core.files import write_atomic
from aarlab.testbed.running import run_method
from aarlab.testbed.running.job import PREDICTIONS, Job, JobOutput, turns
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.task import load_info

MAX_SEEDS = 16


def job_for(method: Path, public: Path, n_seeds: int, first_seed: int, diagnostics: bool) -> Job:
    """Return a job of seeds first_seed, first_seed + 1, ... with the public teachers in turn."""
    teachers = load_info(public).teacher_seeds
    runs = turns(teachers, range(first_seed, first_seed + n_seeds))
    return Job(method=method.resolve(), public=public.resolve(), runs=runs, diagnostics=diagnostics)


def summary(output: JobOutput) -> str:
    """Return one line per seed: seconds, compute, label-free diagnostics."""
    lines = [f"{len(output.ids)} rows, {len(output.runs)} seeds, {output.seconds:.1f} s"]
    for record in output.records:
        facts = {name: round(value, 4) for name, value in record.diagnostics.items()}
        compute = {name: round(value, 2) for name, value in record.compute.items()}
        shown = {"seed": record.seed, "teacher": record.teacher_seed, **compute, **facts}
        lines.append(json.dumps(shown))
    return "\n".join(lines)


def parser_of(prog: str, about: str | None) -> argparse.ArgumentParser:
    """Return the arguments that `try_out` reads."""
    parser = argparse.ArgumentParser(prog=prog, description=about)
    parser.add_argument("method", type=Path, help="folder with method.py")
    parser.add_argument("out", type=Path, help="folder for job.json and predictions.json")
    parser.add_argument("--public", type=Path, default=Path("/public"), help="the task")
    parser.add_argument("--seeds", type=int, default=3, choices=range(1, MAX_SEEDS + 1))
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--no-diagnostics", action="store_true", help="a little faster")
    return parser


def try_out(given: argparse.Namespace, students: Callable[[], StudentFactory] | None = None) -> int:
    """Run the method and return the exit code; `students` as in `run_method.run_job`."""
    try:
        job = job_for(
            given.method, given.public, given.seeds, given.first_seed, not given.no_diagnostics
        )
    except AarlabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    given.out.mkdir(parents=True, exist_ok=True)
    for stale in (PREDICTIONS, "error.json"):
        (given.out / stale).unlink(missing_ok=True)
    path = given.out / "job.json"
    write_atomic(path, job.model_dump_json(indent=1) + "\n")
    code = run_method.main([str(path), str(given.out)], students=students)
    if code == 0:
        done = JobOutput.model_validate_json((given.out / PREDICTIONS).read_bytes())
        sys.stdout.write(f"{summary(done)}\nwrote {given.out / PREDICTIONS}\n")
    return code


def main(argv: list[str]) -> int:
    return try_out(parser_of("python -m aarlab.testbed.running.trying", __doc__).parse_args(argv))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
