"""`python -m aarlab.verify.watched JOB.json OUT_DIR`: a verified run, inside its sandbox.

Before the first line of the method runs, the process loses the right to start programs and its
actions are recorded.
"""

import sys
from pathlib import Path

import aarlab
from aarlab.sandbox.syscalls import forbid_exec
from aarlab.testbed.running.job import read_job
from aarlab.testbed.running.run_method import main as run_method
from aarlab.verify.record import start_recording


def main(argv: list[str]) -> int:
    def watch() -> None:
        job = read_job(Path(argv[0]))
        forbid_exec()
        package = Path(aarlab.__file__).parent
        read = [package, job.method, job.public, Path(argv[1])]
        start_recording(read if job.model is None else [*read, job.model])

    return run_method(argv, before_method=watch)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
