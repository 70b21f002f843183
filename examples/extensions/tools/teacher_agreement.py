"""A tool for AARs in a package of its own: how often two public weak teachers agree.

`pip install examples/extensions/tools` where the server runs; AARs then have `teacher_agreement`
over MCP, at `POST /v1/tools/teacher_agreement`, and in the language-model loop.
"""

from typing import Annotated

from pydantic import BaseModel, Field

from aarlab.core.errors import BadInput
from aarlab.core.platform_tools import ExtraTool, Input, PlatformTool, ToolContext

PAGE = 10_000


class WhichTeachers(Input):
    task: Annotated[str, Field(max_length=64, description="name of a task")]
    first: Annotated[int, Field(ge=0, description="seed of a public weak teacher")]
    second: Annotated[int, Field(ge=0, description="seed of another one")]


class Agreement(BaseModel):
    rows: int
    share: float = Field(description="rows for which both are on the same side of 0.5")


def agreement(context: ToolContext, asked: WhichTeachers) -> Agreement:
    """Compare the weak labels of two teachers on the train rows."""
    if asked.first == asked.second:
        raise BadInput("give two different teachers")
    one, other = (_labels(context, asked.task, seed) for seed in (asked.first, asked.second))
    same = sum((a > 0.5) == (b > 0.5) for a, b in zip(one, other, strict=True))
    return Agreement(rows=len(one), share=same / len(one))


def _labels(context: ToolContext, task: str, seed: int) -> list[float]:
    """Read all pages, as the AAR itself could."""
    probs: list[float] = []
    after: int | None = 0
    while after is not None:
        page = context.read("weak_labels", task=task, teacher_seed=seed, after=after, limit=PAGE)
        probs += page.probs
        after = page.next_after
    return probs


TOOL = ExtraTool(
    PlatformTool(
        "teacher_agreement",
        "How often two public weak teachers agree on the train rows of a task.",
        WhichTeachers,
        Agreement,
    ),
    agreement,
)
