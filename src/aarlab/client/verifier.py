"""What a verification pod asks the platform. Every method may raise any error of core.errors."""

from collections.abc import Collection, Iterator

from aarlab.client.transport import Address, Client, Transport
from aarlab.core.wire import SnapshotContent, Verification, VerificationResult
from aarlab.core.wire_verifiers import (
    Claimed,
    Material,
    Renewed,
    Settled,
    VerifierGiven,
    VerifierJoin,
    VerifierResult,
    VerifierRun,
    VerifierRuns,
)


class VerifierClient(Client):
    """The requests of one pod; `number` is what `join` gave this process. Use one per thread.

    All raise Superseded once a newer process of the pod has joined, and those about a re-run raise
    Conflict once the pod does not hold it any more.
    """

    def __init__(
        self, address: Address, key: str, pod: str, number: int = 0, deadline_s: float = 300.0
    ) -> None:
        self._http = Transport(address, key, deadline_s)
        self.pod, self.number = pod, number

    def join(self) -> VerifierGiven:
        """Begin a process of the pod."""
        given = self._http.post("/v1/verifier/join", VerifierGiven, VerifierJoin(pod=self.pod))
        self.number = given.number
        return given

    def claim(self, holding: Collection[str]) -> Verification | None:
        """Take the next re-run that nobody holds, besides those that the pod is `holding`."""
        return self._http.post("/v1/verifier/claim", Claimed, self._runs(holding)).run

    def renew(self, runs: Collection[str]) -> list[str]:
        """Renew leases; return those that the pod still has."""
        return self._http.post("/v1/verifier/renew", Renewed, self._runs(runs)).held

    def release(self) -> None:
        """Give all back that the process holds."""
        self._http.post("/v1/verifier/release", Renewed, self._runs(()))

    def snapshot(self, run: str) -> SnapshotContent:
        return self._http.post("/v1/verifier/snapshot", SnapshotContent, self._run(run))

    def material(self, run: str) -> Material:
        return self._http.post("/v1/verifier/material", Material, self._run(run))

    def parts(self, run: str, name: str) -> Iterator[bytes]:
        """Yield the bytes of a file of the material."""
        at = 0
        asked: dict[str, str | int] = {"pod": self.pod, "number": self.number, "run": run}
        while found := self._http.get_bytes("/v1/verifier/part", {**asked, "name": name, "at": at}):
            yield found
            at += len(found)

    def settle(self, run: str, result: VerificationResult) -> Settled:
        """Hand in a result, again with no harm. Raises BadInput for one that cannot be scored."""
        call = VerifierResult(**dict(self._run(run)), result=result)
        return self._http.post("/v1/verifier/settle", Settled, call)

    def _runs(self, runs: Collection[str]) -> VerifierRuns:
        return VerifierRuns(pod=self.pod, number=self.number, runs=sorted(runs))

    def _run(self, run: str) -> VerifierRun:
        return VerifierRun(pod=self.pod, number=self.number, run=run)
