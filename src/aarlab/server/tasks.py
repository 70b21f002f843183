"""Which tasks there are: AARs see the development tasks only, the operator all of the vault."""

from contextlib import suppress

from pydantic import ValidationError

from aarlab.core.errors import Damaged, NotFound
from aarlab.core.problem import WEAK_TO_STRONG, ProblemFacts
from aarlab.core.wire import TaskInfo
from aarlab.server.platform import Platform
from aarlab.server.recorded import Recorded


def development_tasks(platform: Platform) -> list[str]:
    return list(platform.settings.tasks) or platform.scorer.tasks()


def check_development(platform: Platform, task: str) -> None:
    """Raise NotFound alike for held-out tasks and for those that do not exist."""
    known = development_tasks(platform)
    if task not in known:
        raise NotFound(f"no task {task!r} in this campaign; its tasks are: {', '.join(known)}")


def problem_of(platform: Platform) -> ProblemFacts:
    """Return the research problem, which all tasks of a campaign share.

    Weak-to-strong where no task can be read.
    """
    for task in development_tasks(platform):
        with suppress(NotFound, Damaged):
            return task_info(platform, task).problem
    return WEAK_TO_STRONG


def task_info(platform: Platform, task: str) -> TaskInfo:
    path = platform.settings.data_root.public_task(task) / "task.json"
    try:
        return TaskInfo.model_validate_json(path.read_text(encoding="utf-8"))
    except OSError:
        if isinstance(platform.scorer, Recorded):
            return platform.scorer.info(task)
        raise NotFound(f"{path} cannot be read: build the task: aarlab task build {task}") from None
    except ValidationError:
        raise Damaged(
            f"{path} is not a task.json: build it again: aarlab task build {task}"
        ) from None
