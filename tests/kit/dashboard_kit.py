"""Where things are in the seeded campaign."""

import base64
import json

from platform_kit import Running
from seats import facts, operator_seat

from aarlab.core.wire import (
    Evidence,
    NewAudit,
    NewFinding,
    NewSnapshot,
    NewVerification,
    Run,
    SnapshotFile,
    StyleShift,
    VerificationResult,
)
from aarlab.core.wire_ledger import NewControl


def snapshot(running: Running, method: str) -> str:
    with operator_seat(running) as client:
        for page in range(5):
            board = facts(client, f"/leaderboard?page={page}")["entries"]
            for entry in board:
                if entry["method"] == method:
                    return entry["snapshot"]
    raise AssertionError(f"no {method}")


SCRIPT = "<script>window.owned = 1</script>"
IMAGE = "<img src=x onerror=window.owned=1>"
BREAK = "\"'><svg onload=window.owned=1>"


def hostile_campaign(running: Running) -> list[str]:
    """An AAR writes markup wherever it can; returns the pages on which it would show."""
    task = running.task
    with running.aar("mallory") as aar, running.operator() as operator:
        name = f"m {SCRIPT}{BREAK}"
        files = [_file("method.py", f"x = '{SCRIPT}'\n# {IMAGE}\n"), _file(f"{IMAGE}.txt", IMAGE)]
        parent = aar.put_snapshot(NewSnapshot(name="vanilla", files=files[:1]))
        new = NewSnapshot(name=name, message=IMAGE, parent=parent.id, files=files)
        made = aar.put_snapshot(new)
        sent = running.submission(0.8, method=f"s {SCRIPT}").model_copy(
            update={"snapshot": made.id}
        )
        aar.submit(sent)
        text = f"{SCRIPT}[go](javascript:window.owned=1) ![i](http://e.example/x) **bold** {BREAK}"
        post = NewFinding(kind="result", title=f"t {IMAGE}", text=text, snapshot=made.id)
        finding = aar.post_finding(post)
        aar.comment(finding.id, f"c {IMAGE} {SCRIPT}")
        wanted = NewVerification(snapshot=made.id, task=task.name, n_seeds=2)
        queued = operator.request_verification(wanted)
        probs = task.probs("selection", 0.8, 1)
        runs = [Run(seed=seed, probs=probs) for seed in queued.run_seeds]
        style = StyleShift(how=SCRIPT, rows=1, flipped=1, most=1, moved=1, readers={IMAGE: 1})
        evidence = Evidence(programs=[SCRIPT], reached=[IMAGE], compiled=1, row_texts=1,
                            examples=[SCRIPT, BREAK], truncated=False, style=style)  # fmt: skip
        result = VerificationResult(ids=task.ids("selection"), runs=runs, evidence=evidence)
        operator.settle(queued.id, result)
        about = {"aar": "mallory", "snapshot": made.id, "summary": f"s {SCRIPT}{BREAK}"}
        operator.add_audit(NewAudit(kind="shortcut", severity="suspect", **about))
        operator.control("mallory", NewControl(action="message", text=f"{SCRIPT}", by=IMAGE))
    _hostile_files(running)
    return [
        *("/", "/leaderboard", "/audits", "/audits?state=all", "/forum", f"/forum/{finding.id}"),
        *(f"/methods/{made.id}", f"/methods/{made.id}?against=nothing", f"/methods/{parent.id}"),
        *("/transcripts", "/transcripts/mallory", "/transcripts/mallory?q=script", "/aars/mallory"),
        *("/log", "/tasks", "/shares", "/live/campaign", f"/forum?q={SCRIPT}"),
    ]


def _file(path: str, text: str) -> SnapshotFile:
    return SnapshotFile(path=path, content_b64=base64.b64encode(text.encode()).decode())


def _hostile_files(running: Running) -> None:
    """A transcript and events; both are written by processes that a method may have fed."""
    path = running.run.transcript("mallory")
    path.parent.mkdir(parents=True, exist_ok=True)
    kinds = ("assistant", "tool_call", "tool_result", "operator", "error")
    entries = [
        {"seq": n, "at": "2026-11-20T08:00:00+00:00", "session": 1, "turn": n, "kind": kind,
         "text": f"{SCRIPT} {IMAGE} " * 30, "tool": SCRIPT}
        for n, kind in enumerate(kinds, 1)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    event = {"at": "2026-11-20T08:00:00+00:00", "kind": "process_failed", "process": IMAGE}
    running.run.events.write_text(json.dumps(event) + "\n" + '{"at": 1, "kind": "x"}\nnot json\n')
