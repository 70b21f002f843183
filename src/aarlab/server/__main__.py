"""`python -m aarlab.server --run RUN --root ROOT [--task NAME ...]`: what a campaign starts."""

import argparse
import sys
from pathlib import Path

from aarlab.core.errors import AarlabError
from aarlab.core.logs import log_to_stderr
from aarlab.core.showing import safe_to_show
from aarlab.server.serve import serve
from aarlab.server.settings import ServerSettings
from aarlab.store.place import check_argument


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.server", description=__doc__)
    parser.add_argument("--run", type=Path, required=True, help="folder of the run")
    parser.add_argument("--root", type=Path, required=True, help="folder with public/ and vault/")
    parser.add_argument("--task", action="append", default=[], help="development task (repeat)")
    parser.add_argument("--exact-feedback", action="store_true", help="unshaped scores, stamped so")
    parser.add_argument(
        "--at-rest", action="store_true", help="also without its tasks: what was scored is served"
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, help="also listen on TCP")
    parser.add_argument("--certificate", type=Path, help="TLS on TCP: the server's certificate")
    parser.add_argument("--certificate-key", type=Path, help="its private key, of mode 600")
    parser.add_argument("--no-unix-socket", action="store_true", help="TCP only")
    parser.add_argument("--database", help="postgresql://USER@HOST/NAME, without a password")
    parser.add_argument("--database-file", type=Path, help="file with the URL, password and all")
    parser.add_argument("--blobs", help="where snapshots lie, e.g. s3://bucket/prefix")
    parser.add_argument(
        "--blobs-direct", action="store_true", default=None, help="AARs use the bucket themselves"
    )
    given = parser.parse_args(arguments)
    log_to_stderr()
    names = ("database", "database_file", "blobs", "blobs_direct")
    places = {name: value for name in names if (value := getattr(given, name)) is not None}
    try:
        if given.database is not None:
            check_argument(given.database)
        serve(
            ServerSettings(
                run=given.run,
                data=given.root,
                tasks=given.task,
                exact_feedback=given.exact_feedback,
                at_rest=given.at_rest,
                host=given.host,
                port=given.port,
                certificate=given.certificate,
                certificate_key=given.certificate_key,
                unix_socket=not given.no_unix_socket,
                **places,
            )
        )
    except AarlabError as error:
        sys.stderr.write(f"aarlab server: {safe_to_show(str(error))}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
