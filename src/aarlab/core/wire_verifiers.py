"""What verification pods ask the platform: a re-run to do, what it works on, and to settle it.

A pod holds a key that opens these requests alone. Each names the pod and the number of its process:
an older process is refused once a newer one has joined.
"""

from typing import Annotated, Literal

from pydantic import Field

from aarlab.core.wire import Verification, VerificationResult
from aarlab.core.wire_base import Name, Wire

LEASE_S = 60.0
"""Seconds after which a re-run is free again unless its holder has renewed the lease."""
PART_BYTES = 8 * 2**20
"""Of a file of the material, at most, in one answer."""

RunId = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,64}$")]
Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class VerifierJoin(Wire):
    """Begins a process of a verification pod."""

    pod: Name


class VerifierGiven(Wire):
    """The number of the process, and the campaign's spec, which holds no secret."""

    number: int
    spec: str


class VerifierCall(VerifierJoin):
    """A request of the pod's process `number`."""

    number: Annotated[int, Field(ge=1, lt=2**31)]


class VerifierRuns(VerifierCall):
    """A request about re-runs that the process holds.

    A claim names all of them: what it does not name was given in an answer that was lost.
    """

    runs: Annotated[list[RunId], Field(max_length=64)]


class VerifierRun(VerifierCall):
    run: RunId


class VerifierPart(VerifierRun):
    """Asks for the bytes of a file of the material from `at` on."""

    name: Annotated[str, Field(max_length=200)]
    at: Annotated[int, Field(ge=0, lt=2**53)] = 0


class VerifierResult(VerifierRun):
    result: VerificationResult


class Claimed(Wire):
    """The re-run that the process holds from now on; None: nothing waits."""

    run: Verification | None = None


class Renewed(Wire):
    """Leases that the process still has; what is missing is another's, or settled."""

    held: list[RunId]


class Settled(Wire):
    """What became of a re-run. The figure is not the pod's business."""

    state: Literal["done", "failed"]


class FileFacts(Wire):
    sha256: Sha
    n_bytes: int


class Material(Wire):
    """What a re-run works on: files by name, and never a truth.

    `vault/` and `private/` are fetched, `public/` the pod's machine must have as they are here, as
    well as the model, whose key says which one it is.
    """

    files: dict[str, FileFacts]
    model: str | None = None
    model_key: str = ""


class Lease(Wire):
    """Who does a re-run, and since when."""

    run: RunId
    pod: Name
    number: int
    since: str
