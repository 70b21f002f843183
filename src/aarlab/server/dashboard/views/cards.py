"""Data cards of tasks and models, from the files that the task was built with."""

import asyncio
from dataclasses import asdict
from typing import Any

from markupsafe import Markup

from aarlab.core.errors import AarlabError, Damaged, NotFound
from aarlab.core.types import EVAL_SPLITS
from aarlab.server.dashboard.desk import Desk
from aarlab.server.markdown import render_markdown
from aarlab.server.tasks import task_info
from aarlab.testbed.models.catalogue import CATALOGUE, PAIRS, ModelEntry

Facts = dict[str, Any]
MAX_CARD = 40_000


async def task_cards(desk: Desk, operator: bool) -> Facts:
    """The operator also sees held-out tasks, the certify split, and the cards out of the vault."""
    return await asyncio.to_thread(_cards, desk, operator)


def _cards(desk: Desk, operator: bool) -> Facts:
    held_out = set(desk.tasks(True)) - set(desk.tasks(False))
    tasks = [_task(desk, name, name in held_out, operator) for name in desk.tasks(operator)]
    pairs = {task["pair"] for task in tasks}
    return {"tasks": tasks, "pairs": [_pair(name) for name in sorted(pairs) if name in PAIRS]}


def _task(desk: Desk, name: str, held_out: bool, operator: bool) -> Facts:
    facts: Facts = {"name": name, "held_out": held_out, "pair": "", "fault": "", "card": None}
    try:
        info = task_info(desk.platform, name)
        hidden = {"settings"} if not operator else set()
        facts |= info.model_dump(exclude=hidden)
    except (NotFound, Damaged) as error:
        facts["fault"] = str(error)
    facts["baselines"] = _baselines(desk, name, operator)
    if operator:
        facts["card"] = _card(desk, name)
    return facts


def _baselines(desk: Desk, task: str, operator: bool) -> list[Facts]:
    """Accuracies of teacher and ceiling on each split that may be shown."""
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
    """Balances and shortcuts: facts about hidden labels, so the operator's alone."""
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
