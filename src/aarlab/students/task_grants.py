"""Grants on public rows of tasks, for AARs: made by a campaign, or on the node of an AAR."""

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from aarlab.core.errors import Forbidden, NotFound, Unreachable
from aarlab.core.files import write_atomic
from aarlab.students.grants import Grant, Operator
from aarlab.testbed.tasks.task import model_at_hand, open_public
from aarlab.testbed.tasks.train_task import student_settings

START_S = 120.0  # for a server to load its models and answer


def admit(operator: Operator, name: str, tasks: Mapping[str, Path], tokens: Path) -> None:
    """Make a grant for each public task; TASK.token in `tokens` opens it, earlier ones are void.

    A token's file is open to the sandbox of its AAR, whose uid is not known to it.
    """
    for task, folder in tasks.items():
        public = open_public(folder)
        facts: dict[str, Any] = {
            "model": model_at_hand(public.info) or "",
            "features": [str(path) for path in sorted((folder / "features").glob("*.npz"))],
            "reads_texts": True,
        }
        rows, settings = (*public.train, *public.search), student_settings(public.info)
        grant = Grant.of(f"{name}/{task}", rows, settings, **facts)
        path = tokens / f"{task}.token"
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, operator.admit(grant) + "\n", 0o644)


def when_it_answers(make: Callable[[], None], ended: Callable[[], bool] = lambda: False) -> None:
    """Make grants once the server answers.

    Raises NotFound, Unreachable or Forbidden if it does not within START_S, or has `ended`.
    """
    until = time.monotonic() + START_S
    while True:
        try:
            make()
        except (NotFound, Unreachable, Forbidden):  # no key yet, no socket yet, an older key
            if ended() or time.monotonic() > until:
                raise
            time.sleep(0.1)
        else:
            return
