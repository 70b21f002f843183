"""What AARs learn of the tasks: facts, rules, rows and weak labels, from public folders only.

Covered: development tasks only (a held-out task looks like one that does not exist), splits train
and search only, pages of at most PAGE_BYTES of text, a folder that does not match its hash.
Not covered: a single row of more than PAGE_BYTES, which is a page of its own.
"""

import asyncio
import json

import numpy as np

from aarlab.agents.external import texts
from aarlab.core.errors import AarlabError, BadInput, Damaged, NotFound
from aarlab.core.problem import KEY
from aarlab.core.wire import TaskInfo
from aarlab.core.wire_service import (
    LABEL_MEANING,
    InputRow,
    MethodContract,
    Note,
    PublicSplit,
    RowPage,
    TaskFacts,
    Text,
    WeakLabelPage,
)
from aarlab.server.platform import Platform
from aarlab.server.service.caller import Caller
from aarlab.server.tasks import check_development, development_tasks, problem_of, task_info
from aarlab.testbed.tasks.task import PublicTask, open_public

PAGE_BYTES = 200_000
DECIMALS = 6


def rules(caller: Caller) -> Text:
    """Return what is asked, scored and forbidden, for this AAR."""
    problem = problem_of(caller.platform)
    return Text(text=texts.rules_text(caller.aar.name, caller.aar.direction, problem))


async def contract(caller: Caller) -> MethodContract:
    """Return what a method must be, with one that works, and the libraries it can import."""
    return await asyncio.to_thread(texts.method_contract, problem_of(caller.platform))


def notes(caller: Caller) -> list[Note]:
    """Return the background notes."""
    problem = problem_of(caller.platform)
    return [texts.note(name, problem) for name in texts.note_names(problem)]


def note(caller: Caller, name: str) -> Note:
    """Return one background note; raises NotFound naming those there are."""
    return texts.note(name, problem_of(caller.platform))


def infos(caller: Caller) -> list[TaskInfo]:
    """List the development tasks without generator settings: their seeds could remake a task."""
    known = [task_info(caller.platform, name) for name in development_tasks(caller.platform)]
    kept = [{k: v for k, v in task.settings.items() if k == KEY} for task in known]
    return [
        task.model_copy(update={"settings": settings})
        for task, settings in zip(known, kept, strict=True)
    ]


def facts(caller: Caller) -> list[TaskFacts]:
    """List the facts of every development task."""
    known = [task_info(caller.platform, name) for name in development_tasks(caller.platform)]
    return [
        TaskFacts(**info.model_dump(exclude={"settings"}), label_meaning=LABEL_MEANING[info.kind])
        for info in known
    ]


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


async def rows(
    caller: Caller, task: str | None, split: PublicSplit, after: int, limit: int
) -> RowPage:
    """Read a page of at most `limit` rows, or fewer if they would exceed PAGE_BYTES."""
    opened = await opened_task(caller.platform, task)
    examples = opened.train if split == "train" else opened.search
    shown: list[InputRow] = []
    room = PAGE_BYTES
    for example in examples[after : after + limit]:
        room -= len(json.dumps([example.prompt, *example.answers], ensure_ascii=False).encode())
        if room < 0 and shown:
            break
        row = InputRow(
            id=example.id, group=example.group, prompt=example.prompt, answers=[*example.answers]
        )
        shown.append(row)
    return RowPage(
        task=opened.info.name,
        split=split,
        total=len(examples),
        rows=shown,
        next_after=_next(after, len(shown), len(examples)),
    )


async def weak_labels(
    caller: Caller, task: str | None, teacher_seed: int | None, after: int, limit: int
) -> WeakLabelPage:
    """Read a page of weak labels by one public teacher, by default the first.

    Raises NotFound, naming the seeds that exist, for an unknown `teacher_seed`, or where the
    research problem has no weak labels.
    """
    opened = await opened_task(caller.platform, task)
    labels = opened.weak_labels
    if not labels.seeds:
        raise NotFound(f"{opened.info.name}: {opened.info.problem.title} has no weak labels")
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
