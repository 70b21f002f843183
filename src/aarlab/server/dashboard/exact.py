"""Exact search scores for the operator's curve: each submission is scored once, in the background.

Scoring takes milliseconds a submission, so a page never waits for it: it shows what is there and
says how many are missing. Only the operator's pages ask; they are figures no AAR may see.
"""

import asyncio
import logging
from array import array

from aarlab.core.errors import AarlabError, BaselineMissing, Damaged, GapNotPositive, NotFound
from aarlab.core.types import Split
from aarlab.core.wire import Predictions, Run
from aarlab.server.dashboard.memory import Memory
from aarlab.server.platform import Platform
from aarlab.server.recorded import Recorded
from aarlab.store import overview

CHUNK, NAN = 16, float("nan")
SEEDS_KEPT = 2000
logger = logging.getLogger("aarlab.server")


class ExactScores:
    """`values[i]` is of `memory.sent[i]`; nan where it cannot be scored."""

    def __init__(self, platform: Platform, memory: Memory) -> None:
        self._platform, self._memory = platform, memory
        self.values = array("f")
        self._task: asyncio.Task[None] | None = None
        self._seeds: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.values)

    def wake(self) -> None:
        """Go on in the background where submissions are not scored yet."""
        if len(self.values) < len(self._memory.sent) and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            while len(self.values) < len(self._memory.sent):
                part = self._memory.sent[len(self.values) :][:CHUNK]
                async with self._platform.store.database.read() as tx:
                    predictions = await overview.predictions_of(tx, [sent.id for sent in part])
                named = [(sent.id, sent.task, predictions.get(sent.id)) for sent in part]
                self.values.extend(await asyncio.to_thread(self._score, named))
        except AarlabError as error:  # an outage: the next page tries again
            logger.warning("exact scores stopped at %d: %s", len(self.values), error.code)

    def _score(self, part: list[tuple[str, str, Predictions | None]]) -> list[float]:
        return [self._one(*each) for each in part]

    def _one(self, submission: str, task: str, predictions: Predictions | None) -> float:
        scorer = self._platform.scorer
        if predictions is None:
            return NAN
        try:
            return scorer.estimate(task, "search", predictions).value
        except (BaselineMissing, GapNotPositive):
            return NAN
        except NotFound:
            if not isinstance(scorer, Recorded):
                raise
        try:
            return scorer.submission(submission).exact.value
        except (NotFound, Damaged):
            return NAN

    async def per_seed(self, run: str, task: str, split: str) -> list[float]:
        """PGR of each seed of a settled re-run, in the order of its seeds; kept, since immutable.

        Each seed's own estimate, all through `core.pgr`; empty without predictions.
        """
        if run not in self._seeds:
            async with self._platform.store.database.read() as tx:
                predictions = await overview.rerun_predictions(tx, run)
            if predictions is None:
                return []
            if len(self._seeds) >= SEEDS_KEPT:
                self._seeds.pop(next(iter(self._seeds)))
            runs = sorted(predictions.runs, key=lambda one: one.seed)
            scored = asyncio.to_thread(self._seed_scores, task, split, predictions.ids, runs)
            try:
                self._seeds[run] = await scored
            except NotFound:
                if not isinstance(self._platform.scorer, Recorded):
                    raise
                return []  # without the task no seed can be scored separately
        return self._seeds[run]

    def _seed_scores(self, task: str, split: str, ids: list[str], runs: list[Run]) -> list[float]:
        which: Split = "certify" if split == "certify" else "selection"
        scored = (
            self._platform.scorer.estimate(task, which, Predictions(ids, [run])) for run in runs
        )
        return [round(estimate.value, 4) for estimate in scored]
