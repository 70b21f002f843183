"""Signed heads of the log go out while the platform runs: after N entries or T seconds."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from aarlab.core.chain import LogHead
from aarlab.core.errors import Unavailable
from aarlab.server.settings import ServerSettings
from aarlab.store import heads, log
from aarlab.store.database import Database
from aarlab.store.heads import Signer

logger = logging.getLogger("aarlab.server")
POLL_S = 1.0
FILE = "heads.jsonl"


class HeadExport:
    """What went out last, and when. It looks at the database: other servers write to it too."""

    def __init__(self, settings: ServerSettings, database: Database, signer: Signer) -> None:
        self._every_entries, self._every_s = settings.head_every_entries, settings.head_every_s
        self._path: Path = settings.run_dir.heads / FILE
        self._database, self._signer = database, signer
        self._last, self._at_s = LogHead(0, ""), -float("inf")

    async def look(self, now_s: float, at_once: bool = False) -> None:
        """Export the head if it is new and due. An outage is waited out: the next look tries."""
        try:
            async with self._database.read() as tx:
                found = await log.head(tx)
            new, old = found.seq - self._last.seq, now_s - self._at_s >= self._every_s
            if new and (at_once or old or new >= self._every_entries):
                head = LogHead(found.seq, found.hash)
                await asyncio.to_thread(heads.append, self._path, self._signer.sign(head))
                self._last, self._at_s = head, now_s
        except Unavailable:
            pass  # logged where it was found
        except OSError as error:
            logger.warning("no signed head was exported to %s: %s", self._path, error.strerror)

    async def run(self) -> None:
        while True:
            await self.look(time.monotonic())
            await asyncio.sleep(POLL_S)


@asynccontextmanager
async def exporting(
    settings: ServerSettings, database: Database, signer: Signer
) -> AsyncIterator[None]:
    """Export heads for as long as this is open, and the last one at its end."""
    export = HeadExport(settings, database, signer)
    async with asyncio.TaskGroup() as tasks:
        running = tasks.create_task(export.run())
        try:
            yield
        finally:
            running.cancel()
    await export.look(time.monotonic(), at_once=True)
