"""`python -m aarlab.students --models NAME,NAME [--socket PATH]`: serve students on one device.

Started again on the same files it serves the same models. Clients have to be admitted again.
"""

import argparse
import signal
import sys
from pathlib import Path
from types import FrameType

from aarlab.core.errors import AarlabError
from aarlab.core.logs import log_to_stderr
from aarlab.core.showing import safe_to_show
from aarlab.students.serve import Wanted, serve


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.students", description=__doc__)
    parser.add_argument("--models", default="", help="names of the catalogue, comma-separated")
    parser.add_argument("--socket", type=Path, help="unix socket, in a folder of its own")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, or one such as cuda:1")
    parser.add_argument("--root", type=Path, help="the data root; default: AARLAB_HOME")
    parser.add_argument("--price", type=float, default=0.0, help="dollars an hour of the device")
    given = parser.parse_args(arguments)
    log_to_stderr("INFO")
    models = tuple(name for name in given.models.split(",") if name)

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        sys.exit(0)

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    try:
        serve(Wanted(models, given.device, given.socket, given.price, given.root), _tell)
    except AarlabError as error:
        sys.stderr.write(f"aarlab students: {safe_to_show(str(error))}\n")
        return 1
    return 0


def _tell(line: str) -> None:
    sys.stdout.write(f"{safe_to_show(line)}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
