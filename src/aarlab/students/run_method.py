"""Run one method folder inside a sandbox, with students of a student server.

Run it as `python -m aarlab.students.run_method JOB.json OUT_DIR SOCKET TOKEN_FILE`. It is
`aarlab.testbed.running.run_method` with other students: the sandbox needs neither features, model
nor device.

Covered: the same. A server that ends in the middle is an error of the run (`unreachable`).
"""

import sys
from pathlib import Path

from aarlab.students.client import Client
from aarlab.testbed.running import run_method
from aarlab.testbed.students.student import StudentFactory


class Sessions:
    """One session for each run of a job. What the run before held on the server is freed."""

    def __init__(self, socket: Path, token_file: Path) -> None:
        self._socket, self._token_file = socket, token_file
        self._open: Client | None = None

    def next(self) -> StudentFactory:
        """Return the students of a new session; raises Unreachable, Forbidden or BadInput."""
        self.close()
        token = self._token_file.read_text(encoding="utf-8").strip()
        self._open = Client.open(self._socket, token)
        return self._open.students

    def close(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


def main(argv: list[str]) -> int:
    if len(argv) != 4:
        sys.stderr.write(
            "usage: python -m aarlab.students.run_method JOB.json OUT_DIR SOCKET TOKEN_FILE\n"
        )
        return 2
    sessions = Sessions(Path(argv[2]), Path(argv[3]))
    try:
        return run_method.main(argv[:2], students=sessions.next)
    finally:
        sessions.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
