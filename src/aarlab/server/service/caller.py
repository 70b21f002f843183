"""Who calls the platform."""

from dataclasses import dataclass

from pydantic import BaseModel

from aarlab.core.wire import NewAar
from aarlab.server.platform import Platform
from aarlab.server.writes import Writing, writing_at


@dataclass(frozen=True, slots=True)
class Caller:
    """An AAR whose token was checked, and the platform that it calls.

    `supervised` says that the call comes from the AAR's supervisor, which counts its research time.
    """

    platform: Platform
    aar: NewAar
    supervised: bool = False

    def writing(self, route: str, key: str, body: BaseModel | None = None) -> Writing:
        """Return the write under `route` ("POST /v1/findings"), whichever way the call came."""
        return writing_at(self.platform, self.aar.name, key, route, body)
