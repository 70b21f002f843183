"""`python -m aarlab.verify --run RUN --root ROOT`: works off the queue, then ends."""

import argparse
import logging
import queue
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aarlab.client.operator import OperatorClient
from aarlab.core.errors import AarlabError
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Verification
from aarlab.verify.rerun import Verifier

LOG = logging.getLogger("aarlab.verify")


def work_off(run: RunDir, verifiers: list[Verifier]) -> int:
    """Re-run and settle every queued verification, `len(verifiers)` at a time; how many."""
    token = (run.tokens / "operator").read_text().strip()
    free: queue.SimpleQueue[Verifier] = queue.SimpleQueue()
    for verifier in verifiers:
        free.put(verifier)

    def settle(wanted: Verification) -> None:
        verifier = free.get()
        try:
            with OperatorClient.over_socket(run.socket, token) as platform:
                result = verifier.rerun(wanted, platform.snapshot(wanted.snapshot))
                platform.settle(wanted.id, result, key=f"settle-{wanted.id}")
        finally:
            shutil.rmtree(run.verifier / wanted.id, ignore_errors=True)
            free.put(verifier)
        LOG.info("%s %s %s: %s", wanted.id, wanted.method, wanted.ablation, result.error or "done")

    with OperatorClient.over_socket(run.socket, token) as platform:
        queued = platform.verifications("queued")
    with ThreadPoolExecutor(len(verifiers)) as pool:
        list(pool.map(settle, queued))
    return len(queued)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.verify", description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--isolation", choices=("bubblewrap", "process"), default="bubblewrap")
    parser.add_argument("--parallel", type=int, default=1)
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    run, root = RunDir(given.run.absolute()), DataRoot(given.root.absolute())
    verifiers = [Verifier(run, root, given.isolation, slot) for slot in range(given.parallel)]
    try:
        work_off(run, verifiers)
    except AarlabError:
        LOG.exception("the verifier stopped")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
