"""Who calls the platform."""

from dataclasses import dataclass, replace

from pydantic import BaseModel

from aarlab.core.wire import NewAar
from aarlab.server.platform import Platform
from aarlab.server.writes import Writing, writing_at


@dataclass(frozen=True, slots=True)
class Caller:
    """An AAR whose token was checked, and the platform that it calls.

    `supervised` says that the call comes from the AAR's supervisor, which counts its research time.
    `life` is the number that it sent: what it writes is refused once a newer life has begun. Agents
    that joined by themselves send none.
    """

    platform: Platform
    aar: NewAar
    supervised: bool = False
    life: int | None = None

    def writing(self, route: str, key: str, body: BaseModel | None = None) -> Writing:
        """Return the write under `route` ("POST /v1/findings"), whichever way the call came."""
        return replace(writing_at(self.platform, self.aar.name, key, route, body), life=self.life)
