"""What of an AAR survives its machine, and how a pod without a shared folder is told what to do.

An AAR's state is kept as blobs, named by their SHA-256, and a manifest that names them. The order
is the contract: blobs, then the manifest, then the effect that depends on them.
"""

from typing import Annotated

from pydantic import Field

from aarlab.core.wire import Wire
from aarlab.core.wire_base import Name

MB = 2**20
FILE_BYTES = 64 * MB  # of one file
KEPT_BYTES = 2048 * MB  # of an AAR in all
MOST_FILES = 20_000
MOST_NAMED = 100  # files that are named of those that are not kept
PART_BYTES = 256 * 1024  # of a transcript
LOG_BYTES = 16 * 1024  # the end of an AAR's log that its pod sends
MOST_LOGS = 16  # of one report
PIECE_BYTES = 16 * 1024  # of its last part, while that is not full

Sha = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
HomeName = Annotated[
    str,
    Field(
        pattern=r"^(transcript\.jsonl/[0-9]{6,9}(\.[0-9]{2})?|loop\.json/[0-9]{6,9}"
        r"|(answers|requests|predictions)/[A-Za-z0-9_:-][A-Za-z0-9_.:-]{0,150}"
        r"|[a-z][A-Za-z0-9_.-]{0,150})$"
    ),
]
STRETCH_BYTES = 16 * 1024  # of a conversation, at least
MESSAGE = b'{"id":"'  # begins a message of a conversation
# These two are followed by the number of a part; that of a transcript's piece is `part.piece`.
TRANSCRIPT, LOOP = "transcript.jsonl/", "loop.json/"
STATES = ("loop.json", "state.json", "running.json", "external.json", "model-calls.jsonl")
POD_STOPPED = "stopped"  # in a pod's folder: what ended its last process
MOST_LINKS = 100  # in one request


def file_of(name: str) -> str:
    """Return the file whose part a name of `Manifest.home` is, or the name itself."""
    return next((f.rstrip("/") for f in (TRANSCRIPT, LOOP) if name.startswith(f)), name)


def stretches(data: bytes) -> list[bytes]:
    """Cut a saved conversation before messages. The parts of one that only grew stay as they were.

    The first has what comes before all messages, the last what comes after. Joined they are `data`.
    """
    head, *messages = data.split(MESSAGE)
    parts = [head]
    for number, message in enumerate(messages):
        if number == 0 or len(parts[-1]) >= STRETCH_BYTES:
            parts.append(b"")
        parts[-1] += MESSAGE + message
    return parts


class Manifest(Wire):
    """An AAR's files by name or path; `gone` are those of its workspace that are not kept.

    A workspace file has its hash and its mode, `gone` the bytes that it had. A transcript is in
    parts of PART_BYTES, the last one in pieces, and a conversation in `stretches`, so that what
    they had before does not travel again.
    """

    home: dict[HomeName, Sha] = Field(default={}, max_length=MOST_FILES)
    workspace: dict[str, tuple[Sha, Annotated[int, Field(ge=0, le=0o777)]]] = Field(
        default={}, max_length=MOST_FILES
    )
    gone: dict[str, int] = Field(default={}, max_length=MOST_NAMED)

    @property
    def blobs(self) -> frozenset[str]:
        return frozenset(self.home.values()) | {sha for sha, _ in self.workspace.values()}


class Kept(Wire):
    """The newest manifest of an AAR, and the life that made it; None: nothing was kept yet.

    `direct` says that blobs do not go through the server: ask for links.
    """

    life: int = 0
    manifest: Manifest | None = None
    direct: bool = False


class Stored(Wire):
    """The answer to a blob or a manifest: bytes that are kept of the AAR in all."""

    n_bytes: int


class LinksAsked(Wire):
    """Blobs that are to be put straight into the store, with their bytes, or got from there."""

    put: dict[Sha, Annotated[int, Field(ge=0, le=FILE_BYTES)]] = Field(
        default={}, max_length=MOST_LINKS
    )
    get: list[Sha] = Field(default=[], max_length=MOST_LINKS)


class Links(Wire):
    """A URL for each blob, good for minutes and for nothing else. Whoever has one may use it."""

    put: dict[Sha, str] = Field(default={}, repr=False)
    get: dict[Sha, str] = Field(default={}, repr=False)


class PodJoin(Wire):
    """Begins a process of a pod. The pod's key opens exactly the AARs in `aars`, all of them."""

    pod: Name
    aars: Annotated[list[Name], Field(min_length=1, max_length=1000)]


class PodGiven(Wire):
    """What a pod needs on a machine without the run's folder. Tokens and keys are secrets."""

    number: int = Field(description="of this process of the pod; an older one is refused")
    spec: str
    configs: dict[Name, str]
    tokens: dict[Name, str]
    supervisors: dict[Name, str]
    orders: str
    report: str


class PodNews(PodJoin):
    """What became of a pod and its AARs: its report, and the errors that ended their processes."""

    number: int
    report: Annotated[str, Field(max_length=2_000_000)] = Field(
        default="", description="empty: as it was"
    )
    errors: dict[Name, Annotated[str, Field(max_length=30_000)]] = Field(
        default={}, description="of AARs whose error changed; empty: there is none any more"
    )
    logs: dict[Name, Annotated[str, Field(max_length=LOG_BYTES)]] = Field(
        default={},
        max_length=MOST_LOGS,
        description="the ends of logs that changed; each replaces what was sent before",
    )
    stopped: Annotated[str, Field(max_length=20_000)] = Field(
        default="", description="the error that ended this process of the pod"
    )


class PodOrders(Wire):
    orders: str = Field(description="which AARs are to run")
