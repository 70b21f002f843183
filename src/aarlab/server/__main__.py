"""`python -m aarlab.server --run RUN --root ROOT [--task NAME ...]`: what a campaign starts."""

import argparse
import logging
import sys
from pathlib import Path

from aarlab.core.errors import AarlabError
from aarlab.server.serve import serve
from aarlab.server.settings import ServerSettings


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.server", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--root", type=Path, required=True, help="folder with public/ and vault/")
    parser.add_argument("--task", action="append", default=[], help="development task (repeat)")
    parser.add_argument("--exact-feedback", action="store_true", help="unshaped scores, stamped so")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="also listen on TCP")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        serve(
            ServerSettings(
                run=given.run,
                data=given.root,
                tasks=given.task,
                exact_feedback=given.exact_feedback,
                host=given.host,
                port=given.port,
            )
        )
    except AarlabError as error:
        sys.stderr.write(f"aarlab server: {error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
