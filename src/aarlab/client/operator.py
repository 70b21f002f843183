"""The operator's requests to the platform (campaign, verifier, command line)."""

from pathlib import Path
from typing import Self

from aarlab.client.transport import Address, Client, Transport
from aarlab.core.wire import (
    AarRecord,
    AarToken,
    Audit,
    CampaignExport,
    CaseVerdict,
    Changes,
    Head,
    LogRecord,
    NewAar,
    NewAudit,
    NewCaseVerdict,
    NewVerdict,
    NewVerification,
    SnapshotContent,
    Traces,
    Verdict,
    Verification,
    VerificationResult,
)
from aarlab.core.wire_ledger import (
    CampaignBudget,
    Control,
    NewControl,
    OperatorCall,
    OperatorReservation,
    OperatorSpend,
    Purpose,
)
from aarlab.core.wire_service import IssuedToken, MethodRecord, NewToken, Refusal, TokenRecord
from aarlab.core.wire_verifiers import Lease


class OperatorClient(Client):
    """A blocking client; use one per thread.

    Needs the operator's token (`<run>/platform/tokens/operator`).
    """

    def __init__(self, address: Address, token: str, deadline_s: float = 60.0) -> None:
        self._http = Transport(address, token, deadline_s)

    @classmethod
    def over_socket(cls, socket: Path, token: str, deadline_s: float = 60.0) -> Self:
        return cls(Address(socket), token, deadline_s)

    def register(self, aar: NewAar, key: str | None = None) -> AarToken:
        """Register an AAR.

        Asked again, it returns the same token, so a restarted campaign can continue.
        """
        return self._http.post("/v1/operator/aars", AarToken, aar, key or f"register-{aar.name}")

    def aars(self) -> list[AarRecord]:
        return self._http.get("/v1/operator/aars", list[AarRecord])

    def changes(self, after: int = 0, seen: str = "") -> Changes:
        """Return what happened since the look that gave `after` and `seen`."""
        return self._http.get("/v1/operator/changes", Changes, {"after": after, "seen": seen})

    def set_budget(self, new: CampaignBudget, key: str = "campaign-budget") -> CampaignBudget:
        """Set the budget, once per campaign. Later changes are controls (`extend`)."""
        return self._http.post("/v1/operator/budget", CampaignBudget, new, key)

    def budget(self) -> CampaignBudget:
        return self._http.get("/v1/operator/budget", CampaignBudget)

    def control(self, aar: str | None, new: NewControl, key: str | None = None) -> Control:
        """Steer one AAR, or with None the whole campaign."""
        where = "/v1/operator" if aar is None else f"/v1/operator/aars/{aar}"
        return self._http.post(f"{where}/controls", Control, new, key)

    def controls(self, aar: str | None = None) -> list[Control]:
        """Return all controls, or those that one AAR was meant by; oldest first."""
        query = {} if aar is None else {"aar": aar}
        return self._http.get("/v1/operator/controls", list[Control], query)

    def reserve_call(self, new: OperatorReservation, key: str | None = None) -> OperatorCall:
        """Reserve an own model call before it.

        Raises BudgetExhausted if its cap could be passed.
        """
        return self._http.post("/v1/operator/reservations", OperatorCall, new, key)

    def book_call(self, call: OperatorCall, key: str | None = None) -> OperatorCall:
        """Book a model call after it.

        It counts once under `call.call`, in the place of what was reserved.
        """
        return self._http.post("/v1/operator/model-calls", OperatorCall, call, key)

    def unbooked_calls(self, purpose: Purpose) -> list[OperatorCall]:
        """Return calls that are reserved and not booked: under way, or cut off."""
        query = {"purpose": purpose}
        return self._http.get("/v1/operator/reservations", list[OperatorCall], query)

    def operator_spend(self) -> list[OperatorSpend]:
        return self._http.get("/v1/operator/spend", list[OperatorSpend])

    def make_token(self, aar: str, new: NewToken, key: str | None = None) -> IssuedToken:
        """Issue a token. The same key returns the same token again."""
        return self._http.post(f"/v1/operator/aars/{aar}/tokens", IssuedToken, new, key)

    def tokens(self, aar: str) -> list[TokenRecord]:
        return self._http.get(f"/v1/operator/aars/{aar}/tokens", list[TokenRecord])

    def revoke_token(self, token: str, key: str | None = None) -> TokenRecord:
        """Revoke a token; `token` is the id of its record."""
        path = f"/v1/operator/tokens/{token}/revoke"
        return self._http.post(path, TokenRecord, key=key)

    def method_requests(self) -> list[MethodRecord]:
        return list(self._http.get_pages("/v1/operator/methods", MethodRecord, {}))

    def refuse_method(self, request: str, reason: str, key: str | None = None) -> Refusal:
        path = f"/v1/operator/methods/{request}/refuse"
        return self._http.post(path, Refusal, Refusal(reason=reason), key)

    def request_verification(self, wanted: NewVerification, key: str | None = None) -> Verification:
        return self._http.post("/v1/operator/verifications", Verification, wanted, key)

    def verifications(self, state: str | None = None) -> list[Verification]:
        query = {} if state is None else {"state": state}
        return self._http.get("/v1/operator/verifications", list[Verification], query)

    def leases(self) -> list[Lease]:
        """Return the re-runs that verification pods do just now, oldest first."""
        return self._http.get("/v1/operator/leases", list[Lease])

    def verification(self, verification: str) -> Verification:
        return self._http.get(f"/v1/operator/verifications/{verification}", Verification)

    def settle(
        self, verification: str, result: VerificationResult, key: str | None = None
    ) -> Verification:
        path = f"/v1/operator/verifications/{verification}/result"
        return self._http.post(path, Verification, result, key)

    def snapshot(self, snapshot: str) -> SnapshotContent:
        return self._http.get(f"/v1/operator/snapshots/{snapshot}", SnapshotContent)

    def add_audit(self, new: NewAudit, key: str | None = None) -> Audit:
        return self._http.post("/v1/operator/audits", Audit, new, key)

    def audits(self, snapshot: str | None = None) -> list[Audit]:
        query = {} if snapshot is None else {"snapshot": snapshot}
        return self._http.get("/v1/operator/audits", list[Audit], query)

    def give_verdict(self, new: NewVerdict, key: str | None = None) -> Verdict:
        return self._http.post("/v1/operator/verdicts", Verdict, new, key)

    def verdicts(self) -> list[Verdict]:
        return self._http.get("/v1/operator/verdicts", list[Verdict])

    def give_case_verdict(self, new: NewCaseVerdict, key: str | None = None) -> CaseVerdict:
        """Give a verdict on a finding about an AAR's submissions."""
        return self._http.post("/v1/operator/case-verdicts", CaseVerdict, new, key)

    def case_verdicts(self) -> list[CaseVerdict]:
        return self._http.get("/v1/operator/case-verdicts", list[CaseVerdict])

    def traces(self) -> list[Traces]:
        return self._http.get("/v1/operator/traces", list[Traces])

    def export(self, ideas: bool = False) -> CampaignExport:
        """Export the campaign.

        `ideas` has every snapshot read and classified: for a file, not for a decision.
        """
        query = {"ideas": True} if ideas else {}
        return self._http.get("/v1/operator/export", CampaignExport, query)

    def log(self, after: int = 0, limit: int = 1000) -> list[LogRecord]:
        query = {"after": after, "limit": limit}
        return self._http.get("/v1/operator/log", list[LogRecord], query)

    def head(self) -> Head:
        return self._http.get("/v1/operator/log/head", Head)
