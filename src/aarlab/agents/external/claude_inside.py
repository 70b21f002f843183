"""Runs inside the sandbox: one conversation of Claude Code, begun or continued, to its end.

    python -m aarlab.agents.external.claude_inside SETUP.json

Exit code 1 when it ended with an error; its words are on stderr.
"""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from claude_agent_sdk import ClaudeAgentOptions, ResultMessage, query

# They would need a network, or ask a person.
NOT_HERE = ["WebFetch", "WebSearch", "AskUserQuestion"]


def options_of(setup: dict[str, Any]) -> ClaudeAgentOptions:
    return ClaudeAgentOptions(
        model=setup["model"],
        system_prompt={"type": "preset", "preset": "claude_code", "append": setup["system"]},
        mcp_servers=setup["mcpServers"],
        strict_mcp_config=True,
        setting_sources=[],
        permission_mode="bypassPermissions",
        disallowed_tools=NOT_HERE,
        continue_conversation=setup["again"],
        cwd=str(Path.cwd()),
        # Its small model would be refused by the proxy.
        env={
            "ANTHROPIC_SMALL_FAST_MODEL": setup["model"],
            "ANTHROPIC_DEFAULT_HAIKU_MODEL": setup["model"],
        },
        stderr=_told,
    )


def _told(line: str) -> None:
    sys.stderr.write(line + "\n")


async def talk(setup: dict[str, Any]) -> int:
    failed = 1
    async for message in query(prompt=setup["prompt"], options=options_of(setup)):
        if isinstance(message, ResultMessage):
            failed = int(message.is_error)
            if failed:
                _told(str(message.result)[:2000])
    return failed


if __name__ == "__main__":
    sys.exit(asyncio.run(talk(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))))
