"""`python -m aarlab.verify --run RUN --root ROOT`: run re-runs, ablations and audits, then end.

With `--follow` it works next to the AARs. It polls for queued re-runs, ablates and audits when
nothing is queued, and continues until SIGTERM or SIGINT (exit code 0; what ran is still queued).
With `--until FILE` it follows until that file is there, then ends as it does without `--follow`:
all that is queued is settled, every finding recorded. One verifier works on a run at a time. With
`--elsewhere` verification pods do the re-runs (`python -m aarlab.verify.node`), and this process
all the rest.

Everything it does is recorded on the platform under a key of its own, so that a verifier that was
killed continues where it stopped.
"""

import argparse
import json
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout

from aarlab.core.errors import AarlabError, Conflict
from aarlab.core.isolation import DEFAULT_SANDBOX, SANDBOX_KINDS
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.logs import log_to_stderr
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.rerun_order import ABLATIONS
from aarlab.testbed.tasks.task import load_info
from aarlab.verify.auditing import audit, queue_ablations
from aarlab.verify.audits import check_installed
from aarlab.verify.battery import Effort
from aarlab.verify.bench import Bench, Followed, OperatorDesk, operator
from aarlab.verify.rerun import Verifier, seeds_at_once
from aarlab.verify.review import reviewer
from aarlab.verify.settings import ReviewSettings
from aarlab.verify.strong import StrongModels

LOG = logging.getLogger("aarlab.verify")
LOCK_S = 15.0  # a killed predecessor's sandboxes need a moment to die
AUDIT_EVERY_S = 30.0


@dataclass(frozen=True, slots=True)
class Plan:
    """How far a verifier works, and how it learns that no more work will come."""

    run: RunDir
    effort: Effort
    last_call: Callable[[], bool]
    poll_s: float
    review_dollars: float | None = None
    problem: ProblemFacts = WEAK_TO_STRONG


def work(plan: Plan, bench: Bench | Followed, stop: threading.Event) -> None:
    """Re-run, ablate and audit until the last call, then what is left, or until `stop`."""
    settled, audited_at = True, -AUDIT_EVERY_S
    while not stop.is_set():
        last = plan.last_call()  # first: what was queued before it is seen below
        bench.start_queued()
        settled = bool(bench.collect(plan.poll_s)) or settled
        if bench.idle and settled and _ablate(plan):
            continue
        if last and bench.idle:
            _audit(plan, final=True)
            return
        if settled and (bench.idle or time.monotonic() - audited_at > AUDIT_EVERY_S):
            _audit(plan, final=False)
            settled, audited_at = False, time.monotonic()
        if bench.idle:
            stop.wait(plan.poll_s)


def _ablate(plan: Plan) -> bool:
    """Queue ablations; return True if any were queued, or if re-runs came in, which go first."""
    with operator(plan.run) as platform:
        if platform.verifications("queued"):
            return True
        return queue_ablations(platform, plan.effort) > 0


def _audit(plan: Plan, final: bool) -> None:
    with operator(plan.run) as platform:
        review = reviewer(plan.run, platform, ReviewSettings(), plan.review_dollars, plan.problem)
        if review is not None:
            review.settle()
        audit(platform, review, final)


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m aarlab.verify", description=__doc__)
    parser.add_argument("--run", type=Path, required=True)
    parser.add_argument("--root", type=Path, required=True)
    parser.add_argument("--isolation", choices=SANDBOX_KINDS, default=DEFAULT_SANDBOX)
    parser.add_argument("--parallel", type=int, default=1)
    parser.add_argument("--elsewhere", action="store_true", help="verification pods do re-runs")
    parser.add_argument("--ablate-top", type=int, default=0, help="methods per task to ablate")
    parser.add_argument("--ablate-task", action="append", help="only on these; default: on all")
    parser.add_argument(
        "--ablations", default=",".join(ABLATIONS), help="kinds, separated by commas"
    )
    parser.add_argument("--seeds", type=int, default=8, help="seeds of an ablation")
    parser.add_argument("--seconds", type=float, help="of all re-runs; ablations stop before")
    parser.add_argument(
        "--memory-mb", type=int, default=0, help="a re-run may use, if above what its task says"
    )
    parser.add_argument("--review-dollars", type=float, help="cap of all model reviews of code")
    parser.add_argument("--follow", action="store_true", help="continue until stopped")
    parser.add_argument("--until", type=Path, help="follow until this file is there, then finish")
    parser.add_argument("--poll-s", type=float, default=1.0, help="between looks at the queue")
    parser.add_argument("--nice", type=int, default=0, help="give way to other processes (0 to 19)")
    return parser.parse_args(arguments)


def main(arguments: list[str], stop: threading.Event | None = None) -> int:
    """Run the verifier; `stop` ends it early, and SIGTERM and SIGINT set the process's own."""
    given, stop = parsed(arguments), stop or threading.Event()
    log_to_stderr("INFO")
    logging.getLogger("httpx").setLevel("WARNING")  # one line per request, for days
    os.nice(given.nice)
    run = RunDir(given.run.absolute())
    root = run.bound(DataRoot(given.root.absolute()))
    kinds = tuple(kind for kind in ABLATIONS if kind in given.ablations.split(","))
    tasks = tuple(given.ablate_task) if given.ablate_task else None
    effort = Effort(given.ablate_top, given.seeds, given.seconds, kinds, tasks)
    until: Path | None = given.until
    last_call = until.exists if until is not None else (lambda: not given.follow)
    try:
        check_installed()
        with _alone(run), closing(_bench(given, run, root, stop)) as bench:
            plan = Plan(
                run, effort, last_call, given.poll_s, given.review_dollars, _problem(run, root)
            )
            work(plan, bench, stop)
    except AarlabError:
        LOG.exception("the verifier stopped")
        return 1
    return 0


def _bench(
    given: argparse.Namespace, run: RunDir, root: DataRoot, stop: threading.Event
) -> Bench | Followed:
    if given.elsewhere:
        return Followed(run, stop)
    strong = StrongModels()
    verifiers = [
        Verifier(
            run,
            root,
            given.isolation,
            slot,
            given.memory_mb,
            seeds_at_once(given.parallel),
            strong=strong,
        )
        for slot in range(given.parallel)
    ]
    return Bench(run.verifier, verifiers, OperatorDesk(run, stop), stop)


def _problem(run: RunDir, root: DataRoot) -> ProblemFacts:
    """Return the research problem of the campaign's tasks; weak-to-strong without a spec."""
    if not run.spec.exists():
        return WEAK_TO_STRONG
    campaign = json.loads(run.spec.read_text(encoding="utf-8")).get("campaign", {})
    tasks = campaign.get("tasks") or [None]
    return WEAK_TO_STRONG if tasks[0] is None else load_info(root.public_task(tasks[0])).problem


@contextmanager
def _alone(run: RunDir) -> Iterator[None]:
    """Lock the run: two verifiers would share the sandboxes' uids and do each re-run twice."""
    run.verifier.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(run.verifier / ".lock", timeout=LOCK_S, mode=0o600):
            yield
    except Timeout:
        raise Conflict(f"another verifier works on {run.path}: wait for it or stop it") from None


def stopped_by_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:], stopped_by_signals()))
