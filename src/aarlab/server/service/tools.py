"""The function behind each tool of `core.platform_tools`, for MCP and `POST /v1/tools/NAME`.

A reading tool takes the caller and its input; a writing tool also takes the idempotency key.
"""

import asyncio
import uuid
from collections.abc import Callable, Coroutine
from typing import Any

from pydantic import BaseModel

from aarlab.core import platform_tools as asked
from aarlab.core.errors import NotFound
from aarlab.core.platform_tools import TOOLS, PlatformTool, ToolFacts
from aarlab.core.wire import (
    Comment,
    Finding,
    FindingPage,
    Me,
    NewComment,
    Score,
    ShownScore,
    Snapshot,
    SnapshotContent,
)
from aarlab.core.wire_service import (
    CodeFile,
    FindingQuery,
    MethodCheck,
    MethodContract,
    MethodRequest,
    NewMethod,
    Note,
    OperatorMessage,
    RowPage,
    TaskFacts,
    Text,
    Trial,
    VerifiedMethod,
    Vote,
    WeakLabelPage,
)
from aarlab.server.mcp_schemas import input_schema
from aarlab.server.platform import Platform
from aarlab.server.service import (
    extras,
    forum,
    runs,
    snapshots,
    submissions,
    tasks,
    usage,
    verifications,
)
from aarlab.server.service.caller import Caller

Read = Callable[[Caller, Any], Coroutine[Any, Any, Any]]
Write = Callable[[Caller, Any, str], Coroutine[Any, Any, Any]]
SHOWN = 100  # the last ones of a long list


# ---------------------------------------------------------------- reading
async def rules(caller: Caller, _: asked.Nothing) -> Text:
    return tasks.rules(caller)


async def task_info(caller: Caller, _: asked.Nothing) -> list[TaskFacts]:
    return tasks.facts(caller)


async def method_contract(caller: Caller, _: asked.Nothing) -> MethodContract:
    return await tasks.contract(caller)


async def notes(caller: Caller, given: asked.OneNote) -> Note:
    return tasks.note(caller, given.name)


async def my_budget(caller: Caller, _: asked.Nothing) -> Me:
    return await usage.me(caller)


async def read_rows(caller: Caller, given: asked.ReadRows) -> RowPage:
    return await tasks.rows(caller, given.task, given.split, given.after, given.limit)


async def weak_labels(caller: Caller, given: asked.WeakLabels) -> WeakLabelPage:
    seed = given.teacher_seed
    return await tasks.weak_labels(caller, given.task, seed, given.after, given.limit)


async def my_submissions(caller: Caller, _: asked.Nothing) -> list[ShownScore]:
    return [one for _, one in await submissions.shown(caller)][-SHOWN:]


async def verification_status(
    caller: Caller, given: asked.VerificationStatus
) -> list[MethodRequest]:
    return await verifications.status(caller, given.request)


async def verified_methods(caller: Caller, _: asked.Nothing) -> list[VerifiedMethod]:
    return await verifications.verified(caller)


async def list_snapshots(caller: Caller, given: asked.ListSnapshots) -> list[Snapshot]:
    return [one for _, one in await snapshots.listed(caller, given.aar, given.name)][-SHOWN:]


async def read_snapshot(caller: Caller, given: asked.OneSnapshot) -> list[CodeFile]:
    return await snapshots.read_text(caller, given.snapshot)


async def get_snapshot(caller: Caller, given: asked.OneSnapshot) -> SnapshotContent:
    return await snapshots.read(caller, given.snapshot)


async def search_findings(caller: Caller, given: asked.SearchFindings) -> FindingPage:
    return await forum.search(caller, given.query or FindingQuery(sort="new", limit=20))


async def read_finding(caller: Caller, given: asked.OneFinding) -> Finding:
    return await forum.read(caller, given.finding)


async def operator_messages(caller: Caller, given: asked.OperatorMessages) -> list[OperatorMessage]:
    return await usage.messages(caller, given.after)


# ---------------------------------------------------------------- writing
async def check_method(caller: Caller, given: asked.CheckMethod, key: str) -> MethodCheck:
    return await runs.check(caller, given.method, key)


async def publish_snapshot(caller: Caller, given: asked.PublishSnapshot, key: str) -> Snapshot:
    return await snapshots.freeze_text(caller, given.snapshot, key)


async def put_snapshot(caller: Caller, given: asked.PutSnapshot, key: str) -> Snapshot:
    return await snapshots.freeze(caller, given.snapshot, key)


async def try_method(caller: Caller, given: asked.TryMethod, key: str) -> Trial:
    return await runs.trial(caller, given.trial, key)


async def submit_predictions(caller: Caller, given: asked.SubmitPredictions, key: str) -> Score:
    return await submissions.submit(caller, given.submission, key)


async def request_verification(
    caller: Caller, given: asked.RequestVerification, key: str
) -> MethodRequest:
    return await verifications.request(caller, NewMethod(**given.model_dump()), key)


async def submit_method(caller: Caller, given: asked.SubmitMethod, key: str) -> MethodRequest:
    return await verifications.request(caller, given.method, key)


async def post_finding(caller: Caller, given: asked.PostFinding, key: str) -> Finding:
    return await forum.post(caller, given.post, key)


async def comment(caller: Caller, given: asked.CommentOn, key: str) -> Comment:
    return await forum.comment(caller, given.finding, NewComment(text=given.text), key)


async def vote(caller: Caller, given: asked.VoteOn, key: str) -> Finding:
    return await forum.vote(caller, given.finding, Vote(value=given.value), key)


READS: dict[str, Read] = {
    read.__name__: read
    for read in (
        rules,
        task_info,
        method_contract,
        notes,
        my_budget,
        read_rows,
        weak_labels,
        my_submissions,
        verification_status,
        verified_methods,
        list_snapshots,
        read_snapshot,
        get_snapshot,
        search_findings,
        read_finding,
        operator_messages,
    )
}
WRITES: dict[str, Write] = {
    write.__name__: write
    for write in (
        check_method,
        publish_snapshot,
        put_snapshot,
        try_method,
        submit_predictions,
        request_verification,
        submit_method,
        post_finding,
        comment,
        vote,
    )
}


def offered(platform: Platform) -> list[PlatformTool]:
    """List the platform's own tools and those of installed packages."""
    return [*TOOLS.values(), *(extra.tool for extra in platform.extras.values())]


def facts(platform: Platform) -> list[ToolFacts]:
    """Describe every tool to clients."""
    return [
        ToolFacts(
            name=tool.name,
            about=tool.about,
            method=tool.method,
            path=tool.route,
            input_schema=input_schema(tool.input.model_json_schema()),
        )
        for tool in offered(platform)
    ]


def find(platform: Platform, name: str) -> PlatformTool:
    """Return the tool of a name; raises NotFound."""
    for tool in offered(platform):
        if tool.name == name:
            return tool
    raise NotFound(f"no tool {name[:60]!r}: GET /v1/tools lists them")


async def call(caller: Caller, tool: PlatformTool, given: BaseModel, key: str | None) -> Any:
    """Call a tool with input that fits its model; without a key a write counts each time."""
    extra = caller.platform.extras.get(tool.name)
    if extra is not None:
        loop = asyncio.get_running_loop()

        def read(name: str, **arguments: Any) -> Any:
            """Call a reading tool as this AAR, from the thread of the extra tool."""
            if name not in READS:
                raise NotFound(f"no reading tool {name[:60]!r}: there are {', '.join(READS)}")
            called = READS[name](caller, TOOLS[name].input(**arguments))
            return asyncio.run_coroutine_threadsafe(called, loop).result()

        return await extras.call(caller, extra, given, key or uuid.uuid4().hex, read)
    if tool.method == "GET":
        return await READS[tool.name](caller, given)
    return await WRITES[tool.name](caller, given, key or uuid.uuid4().hex)
