"""An AAR's requests to the platform. Every method may raise any error of core.errors."""

import base64
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from pydantic import RootModel

from aarlab.client.bucket import Bucket
from aarlab.client.transport import Address, Client, Life, Transport
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.platform_tools import ToolFacts
from aarlab.core.supervision import SUPERVISOR_HEADER
from aarlab.core.wire import (
    Comment,
    Finding,
    FindingPage,
    Me,
    NewComment,
    NewFinding,
    NewSnapshot,
    OpenedSession,
    PodAnswer,
    PodPoll,
    Score,
    SessionRecord,
    ShownScore,
    Snapshot,
    SnapshotContent,
    Spend,
    Submission,
    TaskInfo,
    Wanted,
    WantedNow,
)
from aarlab.core.wire_kept import (
    Kept,
    Links,
    LinksAsked,
    Manifest,
    PodGiven,
    PodJoin,
    PodNews,
    PodOrders,
    Stored,
)
from aarlab.core.wire_service import (
    Ballot,
    FindingQuery,
    Lineage,
    MethodRequest,
    ModelCall,
    NewMethod,
    NewReservation,
    NewWait,
    OperatorMessage,
    SnapshotDiff,
    VerifiedMethod,
    Vote,
)


class PlatformClient(Client):
    """A blocking client of the platform's API. Use one per thread.

    A write with a `key` can be repeated after the caller was restarted. `supervisor` is the key of
    the AAR's supervisor (core.supervision), the only one whose requests count the AAR's time.

    A supervisor opens a session before it writes. The clients of one process share its `life`, so
    that any of them raises Superseded once a newer process has opened one.
    """

    def __init__(
        self,
        address: Address,
        token: str,
        deadline_s: float = 60.0,
        supervisor: str = "",
        life: Life | None = None,
    ) -> None:
        headers = {SUPERVISOR_HEADER: supervisor} if supervisor else {}
        self.life = Life() if life is None else life
        self._http = Transport(address, token, deadline_s, headers=headers, life=self.life)
        self._supervises = bool(supervisor)
        self._deadline_s = deadline_s
        self._bucket: Bucket | None = None

    def close(self) -> None:
        super().close()
        if self._bucket is not None:
            self._bucket.close()

    @classmethod
    def over_socket(
        cls, socket: Path, token: str, deadline_s: float = 60.0, supervisor: str = ""
    ) -> Self:
        return cls(Address(socket), token, deadline_s, supervisor)

    def me(self) -> Me:
        return self._http.get("/v1/me", Me)

    def wanted(self, known: Wanted, wait_s: float) -> WantedNow:
        """Return what the operator wants, once it is not `known` or `wait_s` seconds have passed.

        Raises Superseded as soon as a newer life of the AAR has begun.
        """
        query: dict[str, str | int] = {"known": known, "wait_s": f"{wait_s:g}"}
        return self._http.get("/v1/me/wanted", WantedNow, query)

    def tasks(self) -> list[TaskInfo]:
        return self._http.get("/v1/tasks", list[TaskInfo])

    def open_session(self, key: str | None = None) -> OpenedSession:
        """Call once per life of the AAR's process: research time runs from here.

        A supervisor's earlier lives, in whatever process, are refused from now on.
        """
        opened = self._http.post("/v1/sessions", OpenedSession, key=key)
        if self._supervises:
            self.life.number = opened.life
        self.life.begun.set()
        return opened

    def wait(self, new: NewWait, key: str | None = None) -> None:
        """Report what the AAR waits for, or that it continues.

        Does nothing without a supervisor key.
        """
        if self._supervises:
            self._http.post("/v1/waiting", SessionRecord, new, key)

    def spend(self, item: Spend, key: str | None = None) -> Me:
        return self._http.post("/v1/spend", Me, item, key)

    def reserve(self, new: NewReservation, key: str | None = None) -> Me:
        """Hold the most that a model call can cost, before it is made.

        Raises BudgetExhausted if a cap of the AAR or the campaign could be passed. Raises
        TooManyRequests if calls of others under way hold what is left, also after all tries: try
        again later.
        """
        return self._http.post("/v1/reservations", Me, new, key)

    def record_call(self, call: ModelCall, key: str | None = None) -> Me:
        """Record a model call after it, and release the reservation.

        It counts once under `call.call`.
        """
        return self._http.post("/v1/model-calls", Me, call, key)

    def messages(self, after: int = 0) -> list[OperatorMessage]:
        """Return what the operator wrote, with a `seq` above `after`."""
        return self._http.get("/v1/me/messages", list[OperatorMessage], {"after": after})

    def submit(self, submission: Submission, key: str | None = None) -> Score:
        return self._http.post("/v1/submissions", Score, submission, key)

    def submissions(self) -> list[ShownScore]:
        return list(self._http.get_pages("/v1/submissions", ShownScore, {}))

    def request_verification(self, new: NewMethod, key: str | None = None) -> MethodRequest:
        """Ask the platform to run an own snapshot itself; costs one of `limits.methods`."""
        return self._http.post("/v1/methods", MethodRequest, new, key)

    def method_requests(self) -> list[MethodRequest]:
        return list(self._http.get_pages("/v1/methods", MethodRequest, {}))

    def put_snapshot(self, new: NewSnapshot, key: str | None = None) -> Snapshot:
        return self._http.post("/v1/snapshots", Snapshot, new, key)

    def snapshots(self, aar: str | None = None, name: str | None = None) -> list[Snapshot]:
        """Return all snapshots, or those of an AAR or with a name; oldest first."""
        wanted = {"aar": aar, "name": name}
        query = {key: value for key, value in wanted.items() if value is not None}
        return list(self._http.get_pages("/v1/snapshots", Snapshot, query))

    def snapshot(self, snapshot: str) -> SnapshotContent:
        return self._http.get(f"/v1/snapshots/{snapshot}", SnapshotContent)

    def lineage(self, snapshot: str) -> Lineage:
        return self._http.get(f"/v1/snapshots/{snapshot}/lineage", Lineage)

    def diff(self, snapshot: str, against: str | None = None) -> SnapshotDiff:
        """Return the changes since `against`, or since the parent."""
        query = {} if against is None else {"against": against}
        return self._http.get(f"/v1/snapshots/{snapshot}/diff", SnapshotDiff, query)

    def snapshot_tar(self, snapshot: str) -> bytes:
        return self._http.get_bytes(f"/v1/snapshots/{snapshot}/tar")

    def read_snapshot_file(self, snapshot: str, path: str) -> str:
        """Return the text of one file.

        Raises NotFound if it is not in the snapshot, BadInput if it is not text.
        """
        for file in self.snapshot(snapshot).files:
            if file.path == path:
                try:
                    return base64.b64decode(file.content_b64).decode()
                except UnicodeDecodeError:
                    raise BadInput(f"{path} of snapshot {snapshot} is not UTF-8 text") from None
        raise NotFound(f"snapshot {snapshot} has no file {path!r}")

    def post_finding(self, post: NewFinding, key: str | None = None) -> Finding:
        return self._http.post("/v1/findings", Finding, post, key)

    def findings(self, after: int = 0) -> Iterator[Finding]:
        """Yield all findings with a `seq` above `after`, oldest first.

        They are fetched page by page.
        """
        cursor: int | None = after
        while cursor is not None:
            page = self.findings_page(cursor)
            yield from page.findings
            cursor = page.next_after

    def findings_page(self, after: int = 0, limit: int = 50) -> FindingPage:
        return self._http.get("/v1/findings", FindingPage, {"after": after, "limit": limit})

    def search(self, wanted: FindingQuery) -> FindingPage:
        query = wanted.model_dump(mode="json", exclude_defaults=True)
        return self._http.get("/v1/findings", FindingPage, query)

    def changed_findings(self, after: int = 0) -> Iterator[Finding]:
        """Yield findings posted, answered or voted on since one with this `changed`.

        The last changed comes last. One that changes meanwhile comes again.
        """
        cursor: int | None = after
        while cursor is not None:
            page = self.search(FindingQuery(sort="changed", after=cursor, limit=100))
            yield from page.findings
            cursor = page.next_after

    def vote(self, finding: str, value: Ballot, key: str | None = None) -> Finding:
        return self._http.post(f"/v1/findings/{finding}/vote", Finding, Vote(value=value), key)

    def finding(self, finding: str) -> Finding:
        return self._http.get(f"/v1/findings/{finding}", Finding)

    def comment(self, finding: str, text: str, key: str | None = None) -> Comment:
        return self._http.post(
            f"/v1/findings/{finding}/comments", Comment, NewComment(text=text), key
        )

    def tools(self) -> list[ToolFacts]:
        """Return the platform's tools and those of packages installed where it runs."""
        return self._http.get("/v1/tools", list[ToolFacts])

    def call_tool(
        self, name: str, given: Mapping[str, Any], key: str | None = None
    ) -> dict[str, Any]:
        """Call a tool by its name; the server checks the input."""
        body = RootModel[dict[str, Any]](dict(given))
        return self._http.post(f"/v1/tools/{name}", dict[str, Any], body, key)

    def verified_methods(self) -> list[VerifiedMethod]:
        """Return methods of the team that were verified, failed or are flagged.

        They come without figures and in no order.
        """
        return list(self._http.get_pages("/v1/verified", VerifiedMethod, {}))

    # ------------------------------------------------------------ the state that survives a machine
    def before_effects(self, keep: Callable[[], None]) -> None:
        """Have `keep` called before each write that a later life must not make differently."""
        self._http.before_effect = keep

    def kept(self) -> Kept:
        """Return what the AAR kept last. As for all here, a supervisor opens its session first."""
        found = self._http.get("/v1/kept", Kept)
        if found.direct and self._bucket is None:
            self._bucket = Bucket(self._links, self._deadline_s)
        return found

    def put_blobs(self, blobs: Mapping[str, bytes]) -> None:
        """Keep blobs by their SHA-256, where the platform said in `kept` that they go."""
        if self._bucket is not None:
            self._bucket.put(blobs)
            return
        for sha, data in blobs.items():
            self.put_blob(sha, data)

    def get_blobs(self, shas: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """Yield blobs of the AAR's own. Raises NotFound."""
        if self._bucket is not None:
            yield from self._bucket.get(shas)
            return
        for sha in shas:
            yield sha, self.get_blob(sha)

    def put_blob(self, sha: str, data: bytes) -> None:
        """Keep a blob through the platform, wherever it is kept then; so `get_blob`."""
        self._http.put(f"/v1/kept/blobs/{sha}", Stored, data)

    def get_blob(self, sha: str) -> bytes:
        return self._http.get_bytes(f"/v1/kept/blobs/{sha}")

    def _links(self, asked: LinksAsked) -> Links:
        return self._http.put("/v1/kept/links", Links, asked)

    def put_manifest(self, manifest: Manifest) -> None:
        """Replace what the AAR keeps. Raises Superseded for an older life."""
        self._http.put("/v1/kept/manifest", Stored, manifest)


class PodClient(Client):
    """What a pod asks the platform for all its AARs. Use one per thread."""

    def __init__(self, address: Address, key: str, deadline_s: float = 300.0) -> None:
        self._http = Transport(address, key, deadline_s)

    def poll(self, asked: PodPoll) -> PodAnswer:
        """Give signs of life; return what is wanted once it is not what the pod knows."""
        return self._http.post("/v1/pod/poll", PodAnswer, asked)

    def join(self, asked: PodJoin) -> PodGiven:
        """Begin a process of the pod, and return what it needs on a machine of its own."""
        return self._http.post("/v1/pod/join", PodGiven, asked)

    def tell(self, news: PodNews) -> PodOrders:
        """Report, and return the orders. Raises Superseded for an older process of the pod."""
        return self._http.post("/v1/pod/tell", PodOrders, news)
