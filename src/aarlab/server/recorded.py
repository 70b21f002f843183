"""Scores of a campaign at rest, from its last export, when some of its tasks are not here.

Requests that need hidden labels are refused, naming the missing version and how to get it. Earlier
scores are read. Nothing new is scored or invented: a submission that no export has scored has no
figure.
"""

from collections.abc import Sequence
from functools import cached_property

from pydantic import ValidationError

from aarlab.core.errors import Damaged, NotFound
from aarlab.core.pgr import Gap
from aarlab.core.scoring import Scoring
from aarlab.core.types import Split
from aarlab.core.wire import (
    BaselineAccuracy,
    BestFigure,
    CampaignExport,
    Feedback,
    Interval,
    Predictions,
    SubmissionRecord,
    TaskInfo,
)
from aarlab.server.settings import ServerSettings


class Recorded(Scoring):
    """Scoring that falls back to the last export.

    `scorer` scores the tasks that are here; None if there is no vault.
    """

    def __init__(self, settings: ServerSettings, scorer: Scoring | None) -> None:
        self._root, self._run = settings.data_root, settings.run_dir
        self._tasks = list(settings.tasks)
        self._scorer = scorer

    def tasks(self) -> list[str]:
        return sorted({*self._tasks, *(self._root.pinned or {})})

    def check(self, task: str, split: Split = "search") -> None:
        self._of(task).check(task, split)

    def estimate(self, task: str, split: Split, predictions: Predictions) -> Interval:
        return self._of(task).estimate(task, split, predictions)

    def accuracy(self, task: str, split: Split, predictions: Predictions) -> float:
        return self._of(task).accuracy(task, split, predictions)

    def accuracy_interval(self, task: str, split: Split, predictions: Predictions) -> Interval:
        return self._of(task).accuracy_interval(task, split, predictions)

    def gap(self, task: str, split: Split) -> Gap:
        return self._of(task).gap(task, split)

    def difference(self, task: str, split: Split, new: Predictions, other: Predictions) -> Interval:
        return self._of(task).difference(task, split, new, other)

    def best(self, task: str, split: Split, methods: Sequence[Predictions]) -> Interval:
        return self._of(task).best(task, split, methods)

    def best_figure(self, task: str) -> BestFigure | None:
        """Return the figure of a task's best method as the last export has it, if it has one."""
        return next((one for one in self._export.best if one.task == task), None)

    def feedback(
        self, task: str, new: Predictions, best: Predictions | None, exact: bool = False
    ) -> Feedback:
        return self._of(task).feedback(task, new, best, exact)

    def baselines(self, task: str, split: Split) -> BaselineAccuracy:
        try:
            return self._of(task).baselines(task, split)
        except NotFound:
            found = [b for b in self._export.baselines if (b.task, b.split) == (task, split)]
            if not found:
                raise
            return found[0]

    def submission(self, submission: str) -> SubmissionRecord:
        """Return a submission as the last export has it; raises NotFound if it has none."""
        found = [one for one in self._export.submissions if one.id == submission]
        if not found:
            raise NotFound(
                f"submission {submission} is in no export, and its task is not here to score it: "
                f"{self._missing()}"
            )
        return found[0]

    def info(self, task: str) -> TaskInfo:
        """Return the public facts, from the last export, of a task that is not here.

        Raises NotFound if the export does not have it.
        """
        found = [one for one in self._export.tasks if one.name == task]
        if not found:
            raise NotFound(self._root.missing(task))
        return found[0]

    def _of(self, task: str) -> Scoring:
        self._root.check_task(task)
        if self._scorer is None:
            raise NotFound(self._root.missing(task))
        return self._scorer

    def _missing(self) -> str:
        for task in self._tasks:
            try:
                self._root.check_task(task)
            except NotFound as error:
                return str(error)
        return ""

    @cached_property
    def _export(self) -> CampaignExport:
        path = self._run.export
        try:
            return CampaignExport.model_validate_json(path.read_bytes())
        except OSError:
            raise NotFound(f"{path} does not exist, and: {self._missing()}") from None
        except ValidationError:
            raise Damaged(
                f"{path} is not an export of this version, and: {self._missing()}"
            ) from None
