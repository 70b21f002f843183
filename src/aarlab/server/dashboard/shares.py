"""Share links: signed, expiring, revocable. They open what a report would show, read-only.

While the campaign runs they do not show figures of verified methods, since a link may reach an AAR.

A link is `<id>.<expires>.<signature>`. Only the log records who made and revoked it, and when.
Requests are checked against the log too, so all servers of a database agree.

Covered: forged, expired and revoked links; the log does not hold anything that opens a page.
Not covered: whom a link is passed on to. A revocation made through another server of the same
database is seen after FRESH_S.
"""

import hashlib
import hmac
import time
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.errors import NotFound
from aarlab.core.ids import new_id
from aarlab.server.platform import Platform
from aarlab.store import log

FRESH_S = 1.0
DAY_S = 86_400


@dataclass
class Share:
    """What the log says of one link; `expires` in seconds since 1970."""

    id: str
    note: str
    by: str
    at: str
    expires: int
    revoked_by: str = ""

    @property
    def live(self) -> bool:
        return not self.revoked_by and self.expires > time.time()


class Shares:
    """The links of one campaign; remembers how far it has read the log."""

    def __init__(self, platform: Platform) -> None:
        self._database = platform.store.database
        self._key = platform.operator_token.encode()
        self._links: dict[str, Share] = {}
        self._seq, self._read_at_s = 0, -FRESH_S

    async def make(self, tx: AsyncConnection, note: str, by: str, days: int) -> str:
        """Return a new link's token, which is not stored."""
        made, expires = new_id("shr"), int(time.time()) + days * DAY_S
        await log.append(tx, "share", {"id": made, "note": note, "by": by, "expires": expires})
        return f"{made}.{expires}.{self._sign(made, expires)}"

    async def revoke(self, tx: AsyncConnection, share: str, by: str) -> None:
        """Revoke a link. Raises NotFound. Revoking twice changes nothing."""
        await self._read(tx)
        if share not in self._links:
            raise NotFound(f"no share link {share[:60]!r}")
        if not self._links[share].revoked_by:
            await log.append(tx, "share_revoked", {"id": share, "by": by})
        self._read_at_s = -FRESH_S

    async def all(self, tx: AsyncConnection) -> list[Share]:
        """Return the links, newest first."""
        await self._read(tx)
        return list(self._links.values())[::-1]

    async def is_live(self, token: str) -> bool:
        """Return whether a token is of a link made here, not expired and not revoked."""
        share, expires = self._parsed(token)
        if not share or expires < time.time():
            return False
        if time.monotonic() - self._read_at_s > FRESH_S:
            async with self._database.read() as tx:
                await self._read(tx)
        known = self._links.get(share)
        return known is not None and known.live

    def expires_in_s(self, token: str) -> int:
        return max(self._parsed(token)[1] - int(time.time()), 0)

    def _parsed(self, token: str) -> tuple[str, int]:
        """Return id and expiry of a token with a good signature, else ("", 0)."""
        share, _, rest = token.partition(".")
        expires, _, signature = rest.partition(".")
        if not (expires.isascii() and expires.isdigit() and len(expires) <= 12):
            return "", 0
        wanted = self._sign(share, int(expires))
        good = hmac.compare_digest(wanted.encode(), signature.encode())
        return (share, int(expires)) if good else ("", 0)

    def _sign(self, share: str, expires: int) -> str:
        return hmac.new(self._key, f"share\n{share}.{expires}".encode(), hashlib.sha256).hexdigest()

    async def _read(self, tx: AsyncConnection) -> None:
        """Read in what the log says since the last look.

        An older view does not undo anything.
        """
        head = await log.head(tx)
        for entry in await log.of_kinds(tx, ("share", "share_revoked"), self._seq):
            body = entry.body
            if entry.kind == "share":
                self._links.setdefault(body["id"], Share(**body, at=entry.at))
            elif body["id"] in self._links:
                self._links[body["id"]].revoked_by = body["by"]
        self._seq = max(self._seq, head.seq)
        self._read_at_s = time.monotonic()
