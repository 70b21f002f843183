"""Try a method in an AAR's sandbox, with students of a student server.

Run it as `python -m aarlab.students.trying METHOD OUT --socket SOCKET --tokens FOLDER [options]`.
It does what `aarlab.testbed.running.trying` does, and trains on the server. FOLDER holds TASK.token
for each task.
"""

import sys
from pathlib import Path

from aarlab.core.errors import AarlabError
from aarlab.students.run_method import Sessions
from aarlab.testbed.running.trying import parser_of, try_out
from aarlab.testbed.tasks.task import load_info


def main(argv: list[str]) -> int:
    parser = parser_of("python -m aarlab.students.trying", __doc__)
    parser.add_argument("--socket", type=Path, required=True, help="of the student server")
    parser.add_argument("--tokens", type=Path, required=True, help="folder of TASK.token")
    given = parser.parse_args(argv)
    try:
        task = load_info(given.public).name
    except AarlabError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    sessions = Sessions(given.socket, given.tokens / f"{task}.token")
    try:
        return try_out(given, sessions.next)
    finally:
        sessions.close()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
