"""The idea family of each verified method, classified once, in the background, as the report does.

A page shows what is known and never waits: reading and classifying a snapshot takes milliseconds.
Posts that its author adds later do not change a family that was found.
"""

import asyncio
import base64
import logging

from aarlab.core.errors import AarlabError, Damaged, NotFound
from aarlab.core.ideas import FAMILIES
from aarlab.server.dashboard.memory import Memory, Snap
from aarlab.server.ideas import MAX_POSTS
from aarlab.server.platform import Platform
from aarlab.store import overview
from aarlab.testbed.ideas import idea_of

CHUNK, UNKNOWN, WAITING = 16, "not recognised", "not classified yet"
logger = logging.getLogger("aarlab.server")


class Families:
    def __init__(self, platform: Platform, memory: Memory) -> None:
        self._platform, self._memory = platform, memory
        self._found: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    def of(self, snapshot: str) -> str:
        """The family's title."""
        return self._found.get(snapshot, WAITING)

    def wake(self) -> None:
        """Go on in the background where verified methods are not classified yet."""
        if self._missing() and (self._task is None or self._task.done()):
            self._task = asyncio.get_running_loop().create_task(self._run())

    def _missing(self) -> list[Snap]:
        wanted = (s for s in self._memory.runs_of if s not in self._found)
        return [self._memory.snaps[s] for s in wanted if s in self._memory.snaps]

    async def _run(self) -> None:
        try:
            while part := self._missing()[:CHUNK]:
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
