"""Work in the background of the dashboard: exact search scores, and the ideas of verified methods.

A page never waits for either. It shows what is there and says how many are missing.

Each submission is scored once, for the operator's curve; scoring takes milliseconds per submission.
Only the operator's pages ask for these scores, since no AAR may see them.

The idea family of each verified method is classified once, as the report does. Reading and
classifying a snapshot takes milliseconds. Posts that its author adds later do not change a family
that was found.
"""

import asyncio
import base64
import logging
from array import array

from aarlab.core.errors import AarlabError, BaselineMissing, Damaged, GapNotPositive, NotFound
from aarlab.core.ideas import FAMILIES
from aarlab.core.types import Split
from aarlab.core.wire import Predictions, Run
from aarlab.server.dashboard.memory import Memory, Snap
from aarlab.server.ideas import MAX_POSTS
from aarlab.server.platform import Platform
from aarlab.server.recorded import Recorded
from aarlab.store import overview
from aarlab.testbed.ideas import idea_of

CHUNK, NAN = 16, float("nan")
SEEDS_KEPT = 2000
logger = logging.getLogger("aarlab.server")


class ExactScores:
    """`values[i]` is the score of `memory.sent[i]`; nan if it cannot be scored."""

    def __init__(self, platform: Platform, memory: Memory) -> None:
        self._platform, self._memory = platform, memory
        self.values = array("f")
        self._task: asyncio.Task[None] | None = None
        self._seeds: dict[str, list[float]] = {}

    def __len__(self) -> int:
        return len(self.values)

    def wake(self) -> None:
        """Continue in the background if submissions are not scored yet."""
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
        """Return the PGR of each seed of a settled re-run, in the order of its seeds.

        They are kept, since they are immutable. Each is the seed's own estimate, all through
        `core.pgr`. The list is empty without predictions.
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


CLASSIFIED_AT_ONCE, UNKNOWN, WAITING = 16, "not recognised", "not classified yet"


class Families:
    def __init__(self, platform: Platform, memory: Memory) -> None:
        self._platform, self._memory = platform, memory
        self._found: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, snapshot: str) -> str:
        """Return the title of the snapshot's family."""
        return self._found.get(snapshot, WAITING)

    def wake(self) -> None:
        """Continue in the background if verified methods are not classified yet."""
        if self._missing() and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _missing(self) -> list[Snap]:
        wanted = (s for s in self._memory.runs_of if s not in self._found)
        return [self._memory.snaps[s] for s in wanted if s in self._memory.snaps]

    async def _run(self) -> None:
        try:
            while part := self._missing()[:CLASSIFIED_AT_ONCE]:
                cited = {i: s.id for s in part for i in self._sent(s.id)}
                async with self._platform.store.database.read() as tx:
                    texts = await overview.texts_about(tx, [s.id for s in part], cited)
                for snap in part:
                    mine = [text for author, text in texts[snap.id] if author == snap.aar]
                    said = [snap.message, *mine[:MAX_POSTS]]
                    self._found[snap.id] = await asyncio.to_thread(self._one, snap, said)
        except AarlabError as error:  # an outage: the next page tries again
            logger.warning("families stopped at %d: %s", len(self._found), error.code)

    def _sent(self, snapshot: str) -> list[str]:
        return [self._memory.sent[place].id for place in self._memory.sent_of.get(snapshot, [])]

    def _one(self, snap: Snap, texts: list[str]) -> str:
        try:
            read = self._platform.store.snapshots.read(snap.id)
        except (Damaged, NotFound):
            return UNKNOWN
        files = {f.path: base64.b64decode(f.content_b64) for f in read}
        family = idea_of(snap.id, files, snap.name, texts).family
        return UNKNOWN if family is None else FAMILIES[family].title
