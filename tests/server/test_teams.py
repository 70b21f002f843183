"""Nothing of one team reaches another: every route that an AAR can read, and every tool of MCP."""

import itertools

import pytest
from http_kit import http, snapshot_of
from platform_kit import Running
from test_mcp import call, session

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import NotFound
from aarlab.core.wire import NewAar, NewFinding, NewVerification, Run, VerificationResult
from aarlab.core.wire_service import NewMethod
from aarlab.server.app import ROUTERS

SECRET = "zebrafinch"
READS = sorted(
    route.path
    for router in ROUTERS
    for route in router.routes
    if "GET" in route.methods and not route.path.startswith("/v1/operator")
)


def token(running: Running, name: str, team: str) -> str:
    new = NewAar(name=name, researcher="scripted", direction="d", team=team)
    with running.operator() as operator:
        return operator.register(new).token


def join(running: Running, name: str, team: str) -> PlatformClient:
    return PlatformClient(running.address, token(running, name, team), deadline_s=20)


@pytest.fixture(scope="module")
def told(running: Running) -> dict[str, str]:
    """A team's work, all of it marked with the secret; the ids that lead to it."""
    with join(running, "ann", "red") as ann, join(running, "abe", "red") as abe:
        code = ann.put_snapshot(snapshot_of({"method.py": f"# {SECRET}"}, name=SECRET))
        score = ann.submit(running.submission(0.9, method=SECRET))
        cited = {"submission": score.submission, "snapshot": code.id}
        post = NewFinding(kind="insight", title=SECRET, text=SECRET, **cited)
        finding = ann.post_finding(post)
        abe.comment(finding.id, f"{SECRET} indeed")
        abe.vote(finding.id, "up")
        ann.request_verification(NewMethod(snapshot=code.id, note=SECRET))
    with running.operator() as operator:
        queued = operator.request_verification(
            NewVerification(snapshot=code.id, task="tiny", n_seeds=1)
        )
        probs = running.task.probs("selection", 0.8, 1)
        result = VerificationResult(
            ids=running.task.ids("selection"), runs=[Run(seed=queued.run_seeds[0], probs=probs)]
        )
        operator.settle(queued.id, result)
    made = {"snapshot": code.id, "finding": finding.id, "submission": score.submission}
    return {**made, "task": "tiny"}


def test_the_own_team_sees_it_all(running: Running, told) -> None:
    with join(running, "amy", "red") as amy:
        assert amy.finding(told["finding"]).votes.up == 1
        assert [line.snapshot for line in amy.verified_methods()] == [told["snapshot"]]
        assert amy.snapshot(told["snapshot"]).snapshot.name == SECRET


@pytest.mark.parametrize("path", READS)
def test_another_team_reads_nothing_of_it(running: Running, told, path: str) -> None:
    team = f"blue{READS.index(path)}"
    queries = ["", f"?q={SECRET}", "?author=ann", "?aar=ann", "?sort=changed", "?sort=top&limit=1"]
    with http(running, token(running, f"bob-{team}", team)) as bob:
        for query, against in itertools.product(queries, ("", f"&against={told['snapshot']}")):
            asked = path.format(**told) + query + (against if query else "")
            body = bob.get(asked).text
            assert SECRET not in body, asked
            shown = body.replace(told["snapshot"], "") if "{snapshot}" in path else body
            assert not any(told[what] in shown for what in ("submission", "snapshot")), asked
        if "{" in path and "{task}" not in path:  # tasks are everyone's
            assert bob.get(path.format(**told)).status_code == 404


def test_another_team_can_cite_answer_and_build_on_nothing_of_it(running: Running, told) -> None:
    with join(running, "bea", "green") as bea:
        copied = bea.put_snapshot(snapshot_of({"method.py": f"# {SECRET}"}))
        assert copied.same_as == []
        own = bea.post_finding(NewFinding(kind="insight", title="t", text="t"))
        assert [found.id for found in bea.findings()] == [own.id]
        cites = {"kind": "insight", "title": "t", "text": "t", "snapshot": told["snapshot"]}
        refused = (
            lambda: bea.comment(told["finding"], "x"),
            lambda: bea.vote(told["finding"], "up"),
            lambda: bea.post_finding(NewFinding(**cites)),
            lambda: bea.put_snapshot(snapshot_of({"method.py": "1"}, parent=told["snapshot"])),
            lambda: bea.request_verification(NewMethod(snapshot=told["snapshot"])),
            lambda: bea.submit(
                running.submission(0.5).model_copy(update={"snapshot": told["snapshot"]})
            ),
        )
        for attempt in refused:
            with pytest.raises(NotFound):
                attempt()


async def test_no_tool_of_mcp_tells_another_team(running: Running, told) -> None:
    async with session(running, token(running, "bo", "yellow")) as client:
        answers = [
            await call(client, "search_findings"),
            await call(client, "search_findings", query={"q": SECRET}),
            await call(client, "read_finding", finding=told["finding"]),
            await call(client, "get_snapshot", snapshot=told["snapshot"]),
            await call(client, "verified_methods"),
            await call(client, "my_budget"),
        ]
        assert SECRET not in str(answers) and "ann" not in str(answers)


def test_the_operator_sees_all_teams(running: Running, told) -> None:
    with running.operator() as operator:
        export = operator.export()
    assert told["finding"] in {finding.id for finding in export.findings}
    assert {aar.team for aar in export.aars} >= {"red"}
