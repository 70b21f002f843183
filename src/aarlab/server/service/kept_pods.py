"""Pods on machines without the run's folder: the server reads and writes that folder for them.

What a pod finds there on a shared folder it gets in an answer, and what it would write it sends:
its process's number, the configs and keys of its AARs, orders, its report, its AARs' errors and the
ends of their logs.

Covered: an older process of the pod, which is refused; a key that opens other AARs than the named.
"""

import json
from pathlib import Path

from aarlab.agents.state import Claim, begun
from aarlab.core.errors import NotFound
from aarlab.core.files import text_in, write_atomic
from aarlab.core.layout import RunDir
from aarlab.core.supervision import supervisor_key
from aarlab.core.wire_kept import POD_STOPPED, PodGiven, PodJoin, PodNews, PodOrders
from aarlab.server.platform import Platform


def join(platform: Platform, asked: PodJoin) -> PodGiven:
    """Begin a process of a pod. Raises NotFound unless it is one of this campaign."""
    run, folder = platform.settings.run_dir, _folder(platform, asked)
    number = begun(folder).life
    (folder / POD_STOPPED).unlink(missing_ok=True)
    return PodGiven(
        number=number,
        spec=run.spec.read_text(encoding="utf-8"),
        configs={n: (run.aar(n) / "aar.json").read_text(encoding="utf-8") for n in asked.aars},
        tokens={n: (run.tokens / n).read_text(encoding="utf-8") for n in asked.aars},
        supervisors={n: supervisor_key(platform.operator_token, n) for n in asked.aars},
        orders=text_in(folder / "orders.json"),
        report=text_in(folder / "report.json"),
    )


def tell(platform: Platform, news: PodNews) -> PodOrders:
    """Write what a pod reports. Raises Superseded for an older process of it."""
    run, folder = platform.settings.run_dir, _folder(platform, news)
    claim = Claim(folder, news.number)
    with claim.held():
        if news.report:
            write_atomic(folder / "report.json", news.report, ready=claim.check)
        for name in news.errors.keys() & set(news.aars):
            _note_error(run, name, news.errors[name])
        for name in news.logs.keys() & set(news.aars):
            write_atomic(run.aar_log(name), news.logs[name])
        if news.stopped:
            write_atomic(folder / POD_STOPPED, news.stopped + "\n")
    return PodOrders(orders=text_in(folder / "orders.json"))


def _folder(platform: Platform, asked: PodJoin) -> Path:
    """Return a pod's folder. Raises NotFound where the campaign has no such pod of these AARs."""
    folder = platform.settings.run_dir.pod(asked.pod)
    try:
        known = json.loads((folder / "pod.json").read_bytes())["aars"]
    except FileNotFoundError:
        known = {}
    if set(known) != set(asked.aars):
        raise NotFound(f"this campaign has no pod {asked.pod!r} of these AARs")
    return folder


def _note_error(run: RunDir, aar: str, text: str) -> None:
    place = run.aar_error(aar)
    if text:
        write_atomic(place, text)
    else:
        place.unlink(missing_ok=True)
