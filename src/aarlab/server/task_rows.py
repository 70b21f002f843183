"""Rows and weak labels for clients without the task's files, from public folders only.

Covered: development tasks only (a held-out task looks like one that does not exist), splits train
and search only, pages of at most PAGE_BYTES of text, a folder that does not match its hash.
Not covered: a single row of more than PAGE_BYTES, which is a page of its own.
"""

import asyncio
import json

import numpy as np

from aarlab.core.errors import AarlabError, BadInput, Damaged
from aarlab.core.wire import TaskInfo
from aarlab.core.wire_task import (
    LABEL_MEANING,
    InputRow,
    PublicSplit,
    RowPage,
    TaskFacts,
    WeakLabelPage,
)
from aarlab.server.platform import Platform
from aarlab.server.tasks import check_development, development_tasks, task_info
from aarlab.testbed.task import PublicTask, open_public

PAGE_BYTES = 200_000
DECIMALS = 6


def task_facts(platform: Platform) -> list[TaskFacts]:
    """List the facts of every development task."""
    return [_facts(task_info(platform, name)) for name in development_tasks(platform)]


def _facts(info: TaskInfo) -> TaskFacts:
    known = info.model_dump(exclude={"settings"})
    return TaskFacts(**known, label_meaning=LABEL_MEANING[info.kind])


def named_task(platform: Platform, task: str | None) -> str:
    """Return the named task, or the only one if none is named.

    Raises NotFound for an unknown task, BadInput if a name is needed.
    """
    if task is not None:
        check_development(platform, task)
        return task
    only, *others = development_tasks(platform)
    if others:
        raise BadInput(f"name the task: there are {', '.join((only, *others))}")
    return only


async def read_rows(
    platform: Platform, task: str | None, split: PublicSplit, after: int, limit: int
) -> RowPage:
    """Read a page of at most `limit` rows, or fewer if they would exceed PAGE_BYTES."""
    opened = await opened_task(platform, task)
    examples = opened.train if split == "train" else opened.search
    rows: list[InputRow] = []
    room = PAGE_BYTES
    for example in examples[after : after + limit]:
        room -= len(json.dumps([example.prompt, *example.answers], ensure_ascii=False).encode())
        if room < 0 and rows:
            break
        row = InputRow(
            id=example.id, group=example.group, prompt=example.prompt, answers=[*example.answers]
        )
        rows.append(row)
    return RowPage(
        task=opened.info.name,
        split=split,
        total=len(examples),
        rows=rows,
        next_after=_next(after, len(rows), len(examples)),
    )


async def weak_labels(
    platform: Platform, task: str | None, teacher_seed: int | None, after: int, limit: int
) -> WeakLabelPage:
    """Read a page of weak labels by one public teacher, by default the first.

    Raises NotFound, naming the seeds that exist, for an unknown `teacher_seed`.
    """
    opened = await opened_task(platform, task)
    labels = opened.weak_labels
    seed = labels.seeds[0] if teacher_seed is None else teacher_seed
    probs_N = np.round(labels.of_seed(seed), DECIMALS)
    ids = labels.ids[after : after + limit]
    return WeakLabelPage(
        task=opened.info.name,
        teacher_seed=seed,
        teacher_seeds=list(labels.seeds),
        total=len(labels.ids),
        ids=list(ids),
        probs=probs_N[after : after + limit].tolist(),
        next_after=_next(after, len(ids), len(labels.ids)),
    )


def _next(after: int, shown: int, total: int) -> int | None:
    end = after + shown
    return end if shown and end < total else None


async def opened_task(platform: Platform, task: str | None) -> PublicTask:
    """Open a task's public folder and keep it in memory until it holds another build.

    Raises Damaged if its files cannot be read.
    """
    name = named_task(platform, task)
    known = platform.opened.get(name)
    if known is None or known.info.content_hash != task_info(platform, name).content_hash:
        folder = platform.settings.data_root.public_task(name)
        try:
            known = await asyncio.to_thread(open_public, folder)
        except AarlabError as error:  # the message names local folders
            raise Damaged(
                f"the public files of task {name} cannot be read: tell the operator; "
                f"`aarlab task show {name}` says why"
            ) from error
        platform.opened[name] = known
    return known
