"""Two worlds that differ in hidden figures only, and all that an AAR's token opens in one."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
from http_kit import http, snapshot_of
from mcp_clients import call, session
from platform_kit import Running
from seats import field as form_field
from seats import operator_seat, seat

from aarlab.client.platform import PlatformClient
from aarlab.core.wire import (
    Evidence,
    NewAudit,
    NewFinding,
    NewVerification,
    Run,
    Submission,
    VerificationResult,
)
from aarlab.core.wire_service import NewMethod

# Accuracies on selection below the weak teacher's: each PGR there is negative, and no other number
# that an AAR may read is. No two places are alike, and neither order is that of the snapshots.
ONE = (0.30, 0.52, 0.44, 0.20, 0.38)
OTHER = (0.44, 0.20, 0.30, 0.38, 0.52)
FLAGGED, FAILED, UNVERIFIED, UNASKED = 2, len(ONE), len(ONE) + 1, 1
POSTS = {
    "/v1/sessions": None,
    "/v1/waiting": {"kind": "overload"},
    "/v1/spend": {"kind": "device_s", "amount": 1.5},
    "/v1/reservations": {"call": "c", "dollars": 0.5, "tokens": 10},
    "/v1/model-calls": {"call": "c", "model": "m", "dollars": 0.25},
    "/v1/submissions": {},
    "/v1/snapshots": {},
    "/v1/findings": {"kind": "insight", "title": "t", "text": "t"},
    "/v1/findings/{finding}/comments": {"text": "c"},
    "/v1/findings/{finding}/vote": {"value": "up"},
    "/v1/methods": {"snapshot": "{snapshot}"},
    "/v1/checks": {},
    "/v1/trials": {},
    "/v1/tools/{name}": {},
}
QUERIES = {"/v1/tasks/{task}/rows": {"split": "search"}}
TOOLS: dict[str, dict[str, Any]] = {
    "read_rows": {"split": "search"},
    "read_snapshot": {"snapshot": "{snapshot}"},
    "get_snapshot": {"snapshot": "{snapshot}"},
    "read_finding": {"finding": "{finding}"},
    "check_method": {"method": {}},
    "publish_snapshot": {"snapshot": {}},
    "put_snapshot": {"snapshot": {}},
    "try_method": {"trial": {}},
    "submit_predictions": {"submission": {}},
    "request_verification": {"snapshot": "{snapshot}"},
    "submit_method": {"method": {"snapshot": "{snapshot}"}},
    "post_finding": {"post": {"kind": "insight", "title": "t", "text": "t"}},
    "comment": {"finding": "{finding}", "text": "c"},
    "vote": {"finding": "{finding}", "value": "down"},
}
for _name in (
    "rules",
    "task_info",
    "method_contract",
    "notes",
    "my_budget",
    "weak_labels",
    "my_submissions",
    "verification_status",
    "verified_methods",
    "list_snapshots",
    "search_findings",
    "operator_messages",
):
    TOOLS[_name] = {}


@dataclass
class World:
    """A platform on which `ann`, whose token it is, has had methods verified."""

    running: Running
    token: str
    snapshots: list[str] = field(default_factory=list)
    finding: str = ""

    def filled(self, value: Any) -> Any:
        """Put the names of things here in the place of {snapshot}, {finding}, {task}, {name}."""
        text = json.dumps(value).replace("{snapshot}", self.snapshots[0])
        text = text.replace("{name}", "verified_methods")
        return json.loads(text.replace("{finding}", self.finding).replace("{task}", "tiny"))

    def plain(self, text: str) -> str:
        """The text without what differs between two runs of the same actions: ids and times."""
        for number, snapshot in enumerate(self.snapshots):
            text = text.replace(snapshot, f"SNAPSHOT-{number}")
        text = re.sub(r"\b[a-z]{3}_[0-9a-f]{12}\b", "ID", text)
        text = re.sub(r'"research_s": ?[\d.e-]+', '"research_s":0', text)
        text = re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+(\+00:00)?", "TIME", text)
        return re.sub(r"(research (hours|time)\D{0,40})[\d.]+", r"\1 0", text)


def make_world(running: Running, accuracies: tuple[float, ...]) -> World:
    """The same actions in the same order, whatever the accuracies on selection are."""
    world = World(running, running.token("ann"))
    client = PlatformClient(running.address, world.token, deadline_s=20)
    with client as ann, running.aar("ben") as ben, running.operator() as operator:
        for number in range(len(accuracies) + 2):
            code = ann.put_snapshot(snapshot_of({"method.py": f"n = {number}"}, f"m{number}"))
            world.snapshots.append(code.id)
            probs = running.task.probs("search", 0.75, number)
            sent = Submission(task="tiny", method=f"m{number}", snapshot=code.id,
                              ids=running.task.ids(), runs=[Run(seed=0, probs=probs)])  # fmt: skip
            ann.submit(sent, key=f"s{number}")
            if number != UNASKED:
                ann.request_verification(NewMethod(snapshot=code.id), key=f"r{number}")
        post = NewFinding(kind="insight", title="t", text="t", snapshot=world.snapshots[0])
        world.finding = ben.post_finding(post, key="f").id
        best = world.snapshots[max(range(len(accuracies)), key=accuracies.__getitem__)]
        for number, accuracy in enumerate(accuracies):
            _settle(running, world.snapshots[number], accuracy)
        _settle(running, best, 0.25, split="certify")
        _settle(running, best, 0.25, ablation="permuted")
        failing = NewVerification(snapshot=world.snapshots[FAILED], task="tiny", n_seeds=1)
        queued = operator.request_verification(failing)
        operator.settle(queued.id, VerificationResult(error="PGR -0.77 on selection"))
        about = {"aar": "ann", "task": "tiny", "severity": "suspect"}
        operator.add_audit(NewAudit(kind="execution", snapshot=world.snapshots[FLAGGED],
                                    summary="started a program", **about))  # fmt: skip
        for kind in ("rerun", "ablation", "ceiling", "teacher"):
            # Each hangs on a figure: these would be a bit about it.
            operator.add_audit(NewAudit(kind=kind, snapshot=best, summary="PGR -0.77", **about))
    return world


def _settle(running: Running, snapshot: str, accuracy: float, **given: Any) -> None:
    with running.operator() as operator:
        wanted = NewVerification(snapshot=snapshot, task="tiny", n_seeds=1, **given)
        queued = operator.request_verification(wanted)
        probs = running.task.probs(queued.split, accuracy, 1)
        evidence = Evidence(programs=[], reached=[], compiled=0, row_texts=0, examples=[],
                            truncated=False, style=None, disagreement=None,
                            answer_equality=False)  # fmt: skip
        runs = [Run(seed=queued.run_seeds[0], probs=probs)]
        ids = running.task.ids(queued.split)
        operator.settle(queued.id, VerificationResult(ids=ids, runs=runs, evidence=evidence))


def over_http(world: World) -> Iterator[tuple[str, str]]:
    """Every answer of every route of the document that an AAR's token gets, as text."""
    with http(world.running, world.token) as client:
        paths = client.get("/v1/openapi.json").json()["paths"]
        posts = {path for path, operations in paths.items() if "post" in operations}
        assert posts == set(POSTS), "say here what a new route is sent"
        for path in sorted(paths):
            known = set(re.findall(r"{(\w+)}", path)) <= {"snapshot", "finding", "task", "name"}
            assert known, f"say here what {path} is filled with"
            there = world.filled(path)
            if "post" in paths[path]:
                body = world.filled(POSTS[path])
                headers = {"Idempotency-Key": f"look-{len(path)}-{path.rpartition('/')[2][:20]}"}
                yield f"POST {path}", _text(client.post(there, json=body, headers=headers))
            if "get" in paths[path]:
                yield f"GET {path}", _text(client.get(there, params=QUERIES.get(path)))
                for number in range(len(world.snapshots)) if "{snapshot}" in path else ():
                    other = path.replace("{snapshot}", world.snapshots[number])
                    yield f"GET {path} {number}", _text(client.get(other))
        for path in ("/v1/operator/export", "/v1/operator/methods", "/v1/operator/log", "/log"):
            answer = client.get(path)
            assert answer.status_code in (401, 403), path
            yield path, _text(answer)


def _text(answer: httpx.Response) -> str:
    return f"{answer.status_code} {answer.content.decode('latin-1')}"


async def over_mcp(world: World) -> list[tuple[str, str]]:
    """The answer of every tool, and what else the endpoint offers."""
    found = []
    async with session(world.running, world.token) as client:
        tools = {tool.name for tool in (await client.list_tools()).tools}
        assert tools == set(TOOLS), "say here what a new tool is called with"
        for name in sorted(tools):
            given = world.filled(TOOLS[name])
            found.append((name, json.dumps(await call(client, name, **given))))
        found.append(("instructions", client.instructions or ""))
    return found


def as_guest(world: World) -> Iterator[tuple[str, str]]:
    """Every page that a share link opens."""
    pages = ["/", "/leaderboard", "/forum", f"/forum/{world.finding}", "/tasks", "/live/curve"]
    pages += ["/live/campaign", *(f"/methods/{one}" for one in world.snapshots)]
    with operator_seat(world.running) as client:
        form = {"form": form_field(client.get("/shares").text, "form"), "note": "n", "days": "7"}
        link = client.post("/shares", data=form).text.split('id="link">')[1].split("<")[0]
    with seat(world.running) as guest:
        guest.get(link)
        for path in pages:
            for query in ({}, {"format": "json"}):
                answer = guest.get(path, params=query)
                assert answer.status_code == 200, path
                yield f"{path} {query}", answer.text


def negatives(text: str) -> list[str]:
    """Negative decimal numbers, with a hyphen or a minus sign."""
    return re.findall(r"(?<![\w-])[-−]\d+\.\d+", text)
