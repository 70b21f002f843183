"""Tasks and models: what the campaign is judged on.

Data cards of tasks and models come from the files that the task was built with.
"""

import asyncio
from dataclasses import asdict
from typing import Any

from fastapi import APIRouter, Request, Response
from markupsafe import Markup

from aarlab.core.errors import AarlabError, Damaged, NotFound
from aarlab.core.headline import SPLITS_IN_WORDS
from aarlab.core.layout import reference_of
from aarlab.core.types import EVAL_SPLITS
from aarlab.server.dashboard.desk import Desk, DeskDep
from aarlab.server.dashboard.rendering import page
from aarlab.server.dashboard.session import ViewerDep
from aarlab.server.markdown import render_markdown
from aarlab.server.tasks import task_info
from aarlab.testbed.models.catalogue import CATALOGUE, PAIRS, ModelEntry

Facts = dict[str, Any]
MAX_CARD = 40_000


async def task_cards(desk: Desk, operator: bool) -> Facts:
    """Return the tasks.

    The operator also sees held-out tasks, the certify split, and the cards out of the vault.
    """
    return await asyncio.to_thread(_cards, desk, operator)


def _cards(desk: Desk, operator: bool) -> Facts:
    held_out = set(desk.tasks(True)) - set(desk.tasks(False))
    tasks = [_task(desk, name, name in held_out, operator) for name in desk.tasks(operator)]
    pairs = {task["pair"] for task in tasks}
    shown = [_pair(name) for name in sorted(pairs) if name in PAIRS]
    return {"tasks": tasks, "pairs": shown, "splits_in_words": SPLITS_IN_WORDS}


def _task(desk: Desk, name: str, held_out: bool, operator: bool) -> Facts:
    facts: Facts = {
        "name": name,
        "held_out": held_out,
        "pair": "",
        "fault": "",
        "card": None,
        "reference": "",
    }
    try:
        info = task_info(desk.platform, name)
        hidden = {"settings"} if not operator else set()
        facts |= info.model_dump(exclude=hidden)
        # A version is a hash of hidden rows too, so it is the operator's.
        facts["reference"] = _reference(desk, name, info.content_hash) if operator else ""
    except (NotFound, Damaged) as error:
        facts["fault"] = str(error)
    facts["baselines"] = _baselines(desk, name, operator)
    if operator:
        facts["card"] = _card(desk, name)
    return facts


def _reference(desk: Desk, name: str, content_hash: str) -> str:
    """Return NAME@VERSION, as in `aarlab task list`; also for a task that is not here any more."""
    root = desk.platform.settings.data_root
    try:
        return root.find_task(name).reference
    except AarlabError:
        return reference_of(name, root.pinned, content_hash)


def _baselines(desk: Desk, task: str, operator: bool) -> list[Facts]:
    """Return accuracies of teacher and ceiling on each split that may be shown."""
    found = []
    for split in EVAL_SPLITS:
        if split == "certify" and not operator:
            continue
        try:
            found.append(desk.platform.scorer.baselines(task, split).model_dump())
        except AarlabError:
            continue  # a task need not have every split
    return found


def _card(desk: Desk, task: str) -> Markup | None:
    """Return balances and shortcuts. They are facts about hidden labels, for the operator only."""
    path = desk.platform.settings.data_root.vault_task(task) / "card.md"
    try:
        return Markup(render_markdown(path.read_text(encoding="utf-8")[:MAX_CARD]))
    except (OSError, UnicodeDecodeError):
        return None


def _pair(name: str) -> Facts:
    pair = PAIRS[name]
    sides = {"weak teacher": pair.weak, "strong student": pair.strong}
    return {
        "name": name,
        "title": pair.title,
        "models": [
            {"role": role, "layer": ref.layer, **_model(CATALOGUE[ref.model])}
            for role, ref in sides.items()
        ],
    }


def _model(entry: ModelEntry) -> Facts:
    source = " ".join(f"{k} {v}" for k, v in asdict(entry.source).items())
    shown = {"name": entry.name, "title": entry.title, "license": entry.license}
    return {**shown, "source": source, "blocks": entry.n_blocks, "width": entry.width}


router = APIRouter(include_in_schema=False)


@router.get("/tasks")
async def tasks(request: Request, desk: DeskDep, viewer: ViewerDep) -> Response:
    return page(request, viewer, "tasks", await task_cards(desk, viewer.operator))
