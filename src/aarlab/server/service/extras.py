"""Tools of installed packages: entry points of the group `aarlab.tools`.

Covered: a tool gets its input, who calls, and the reading tools as that AAR may call them; a call
is logged and counts once per key; what a tool raises is logged without its message and not sent.
Not covered: the code runs in the server's process and could reach anything there, labels included.
Installing a package is the operator's decision to trust it.
"""

import asyncio
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from pydantic import BaseModel
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import AarlabError, BadInput, ToolFailed
from aarlab.core.platform_tools import EXTRA_TOOLS, TOOLS, ExtraTool, ToolContext
from aarlab.core.registry import Registry, place_of
from aarlab.server.middleware import log_crash
from aarlab.server.service.caller import Caller
from aarlab.server.tasks import development_tasks
from aarlab.server.writes import refusals_logged, write_once
from aarlab.store import log, shared

NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")


def installed_tools() -> dict[str, ExtraTool]:
    """Load the tools of installed packages by name.

    Raises BadInput, Conflict or Damaged for one that cannot be loaded, or whose name is not free.
    """
    registry = Registry("tool", EXTRA_TOOLS, ExtraTool, {}, reserved=TOOLS)
    found: dict[str, ExtraTool] = {}
    for name, entry in registry.installed().items():
        extra, where = registry.get(name), place_of(entry)
        tool = extra.tool
        if tool.name != name or not NAME.fullmatch(name):
            raise BadInput(f"{where}: the tool {tool.name!r} needs the entry's name (a-z, 0-9, _)")
        if tool.path or tool.method != "POST":
            raise BadInput(f"{where}: a tool of a package is a POST without a `path`")
        if not (isinstance(tool.output, type) and issubclass(tool.output, BaseModel)):
            raise BadInput(f"{where}: `output` must be a pydantic model")
        dist = entry.dist
        package = "unknown" if dist is None else f"{dist.name} {dist.version}"
        found[name] = replace(extra, package=package)
    return found


async def call(
    caller: Caller, extra: ExtraTool, given: BaseModel, key: str, read: Callable[..., Any]
) -> BaseModel:
    """Run a tool of a package unless its answer is stored for this key.

    It runs outside of the transaction, which would block other writes. A tool whose server is
    killed is run again when the call is repeated. Raises ToolFailed for whatever it raises.
    """
    tool, aar = extra.tool, caller.aar
    output: type[BaseModel] = tool.output
    writing = caller.writing(f"POST {tool.route}", key, given)
    context = ToolContext(
        aar=aar.name,
        team=aar.team,
        direction=aar.direction,
        tasks=tuple(development_tasks(caller.platform)),
        read=read,
    )
    async with refusals_logged(writing):
        async with caller.platform.store.database.read() as tx:
            known = await shared.recall(tx, aar.name, key, writing.fingerprint, writing.life)
        if known is not None:
            return output.model_validate_json(known)
        try:
            made = await asyncio.to_thread(extra.run, context, given)
            if not isinstance(made, output):
                raise TypeError(f"{tool.name} returned {type(made).__name__}")
        except AarlabError:
            raise
        except Exception as error:  # noqa: BLE001 - code of others: its error is not the server's
            log_crash("tool", tool.name, error)
            raise ToolFailed(
                f"{tool.name} ({extra.package}) failed; the operator's log has the trace"
            ) from None

    async def record(tx: AsyncConnection) -> BaseModel:
        entry = {
            "aar": aar.name,
            "tool": tool.name,
            "package": extra.package,
            "request_sha256": writing.fingerprint,
        }
        await log.append(tx, "tool", entry)
        return made

    return await write_once(writing, output, record)
