"""`python -m aarlab.verify --run RUN --root ROOT`: re-runs, ablations, audits; then it ends.

Everything it does is recorded on the platform under a key of its own, so that a verifier that was
killed goes on where it stopped.
"""

import argparse
import base64
import logging
import queue
import shutil
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from aarlab.client.operator import OperatorClient
from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import AarlabError
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import NewAudit, NewVerification, Verification
from aarlab.verify.battery import Effort, ablations_wanted, audited, audits_wanted, missing
from aarlab.verify.code_audits import code_audits
from aarlab.verify.rerun import Verifier
from aarlab.verify.review import endpoint
from aarlab.verify.settings import ReviewSettings

LOG = logging.getLogger("aarlab.verify")


def work_off(run: RunDir, verifiers: list[Verifier]) -> int:
    """Re-run and settle every queued verification, `len(verifiers)` at a time; how many."""
    free: queue.SimpleQueue[Verifier] = queue.SimpleQueue()
    for verifier in verifiers:
        free.put(verifier)

    def settle(wanted: Verification) -> None:
        verifier = free.get()
        try:
            with operator(run) as platform:
                result = verifier.rerun(wanted, platform.snapshot(wanted.snapshot))
                platform.settle(wanted.id, result, key=f"settle-{wanted.id}")
        finally:
            shutil.rmtree(run.verifier / wanted.id, ignore_errors=True)
            free.put(verifier)
        LOG.info("%s %s %s: %s", wanted.id, wanted.method, wanted.ablation, result.error or "done")

    with operator(run) as platform:
        queued = platform.verifications("queued")
    with ThreadPoolExecutor(len(verifiers)) as pool:
        list(pool.map(settle, queued))
    return len(queued)


def queue_ablations(run: RunDir, effort: Effort) -> None:
    with operator(run) as platform:
        for wanted in ablations_wanted(platform.export(), effort):
            platform.request_verification(wanted, key=verification_key(wanted))


def verification_key(wanted: NewVerification) -> str:
    """The key under which a campaign asks for a re-run once."""
    return f"verify-{wanted.snapshot}-{wanted.task}-{wanted.split}-{wanted.ablation}"[:100]


def audit(run: RunDir) -> int:
    """Record every finding of the battery that is not there yet; how many were added."""
    added = 0
    with operator(run) as platform:
        export, ask = platform.export(), endpoint(ReviewSettings())
        judged = list(dict.fromkeys(v.snapshot for v in audited(export)))
        kept = {(a.kind, a.snapshot) for a in export.audits}
        new = [s for s in judged if ("static", s) not in kept]
        new += [s for s in judged if ask is not None and ("review", s) not in kept]
        code = {s.id: _files(platform, s.id) for s in export.snapshots} if new else {}
        found = [*code_audits(export.snapshots if new else [], code, new, ask)]
        found += audits_wanted(export, platform.traces())
        for finding in missing(iter(found), export.audits):
            platform.add_audit(finding, key=_audit_key(finding))
            added += 1
            LOG.info("%s %s: %s", finding.kind, finding.severity, finding.summary)
    return added


def operator(run: RunDir) -> OperatorClient:
    return OperatorClient.over_socket(run.socket, (run.tokens / "operator").read_text().strip())


def _files(platform: OperatorClient, snapshot: str) -> dict[str, bytes]:
    files = platform.snapshot(snapshot).files
    return {file.path: base64.b64decode(file.content_b64) for file in files}


def _audit_key(finding: NewAudit) -> str:
    about = f"{finding.aar}/{finding.snapshot}/{finding.task}"
    return f"audit-{finding.kind}-{sha256_hex(about)[:32]}"


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m aarlab.verify", description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--isolation", choices=("bubblewrap", "process"), default="bubblewrap")
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--ablate-top", type=int, default=0, help="methods a task to ablate")
    parser.add_argument("--seeds", type=int, default=8, help="seeds of an ablation")
    parser.add_argument("--seconds", type=float, help="of all re-runs; ablations stop before")
    given = parser.parse_args(arguments)
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level="INFO")
    run, root = RunDir(given.run.absolute()), DataRoot(given.root.absolute())
    verifiers = [Verifier(run, root, given.isolation, slot) for slot in range(given.parallel)]
    try:
        work_off(run, verifiers)
        queue_ablations(run, Effort(given.ablate_top, given.seeds, given.seconds))
        work_off(run, verifiers)
        audit(run)
    except AarlabError:
        LOG.exception("the verifier stopped")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
