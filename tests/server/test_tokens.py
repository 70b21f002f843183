"""Several tokens for an AAR: what each opens, and that a revoked one opens nothing at once."""

import pytest
from http_kit import http, problem_of
from platform_kit import Running

from aarlab.core.errors import Conflict, Forbidden, NotFound
from aarlab.core.wire import NewFinding
from aarlab.core.wire_service import NewToken

POST = NewFinding(kind="insight", title="t", text="")
JSON = {"Idempotency-Key": "k", "Content-Type": "application/json"}


def test_a_scope_opens_its_requests_and_no_others(running: Running) -> None:
    running.token("scoped")
    with running.operator() as operator:
        read = operator.make_token("scoped", NewToken(scopes=["read"])).token
        write = operator.make_token("scoped", NewToken(scopes=["write"])).token
    with http(running, read) as reader, http(running, write) as writer:
        assert reader.get("/v1/me").json()["name"] == "scoped"
        refused = reader.post("/v1/findings", content=POST.model_dump_json(), headers=JSON)
        assert refused.status_code == 403 and "needs write" in problem_of(refused).message
        assert reader.get("/v1/findings?author=scoped").json()["findings"] == []
        refused = writer.get("/v1/me")
        assert refused.status_code == 403 and "needs read" in problem_of(refused).message
        assert writer.post("/v1/findings", content=POST.model_dump_json(), headers=JSON).is_success
        assert len(reader.get("/v1/findings?author=scoped").json()["findings"]) == 1
        for client in (reader, writer):
            assert client.get("/v1/operator/aars").status_code == 403


def test_a_revoked_token_is_refused_at_once_and_the_others_live(running: Running) -> None:
    first = running.token("revoked")
    with running.operator() as operator:
        issued = operator.make_token("revoked", NewToken(scopes=["read"], note="laptop"))
        with http(running, issued.token) as client, http(running, first) as other:
            assert client.get("/v1/me").status_code == 200  # it is in the cache now
            revoked = operator.revoke_token(issued.record.id)
            assert client.get("/v1/me").status_code == 401
            assert other.get("/v1/me").status_code == 200
        assert operator.revoke_token(issued.record.id) == revoked
        assert revoked.revoked_at and revoked.note == "laptop"
        registered, listed = operator.tokens("revoked")
        assert (registered.note, registered.scopes) == ("registration", ["read", "write"])
        assert listed == revoked
        operator.revoke_token(registered.id)
        with http(running, first) as other:
            assert other.get("/v1/me").status_code == 401
        kinds = [r.kind for r in operator.log() if issued.record.id in str(r.body)]
    assert kinds.count("token") == 1 and kinds.count("token_revoked") == 2


def test_tokens_are_made_once_kept_as_hashes_and_differ(running: Running) -> None:
    first = running.token("many")
    with running.operator() as operator:
        new = NewToken(scopes=["read", "write"])
        made = operator.make_token("many", new, key="a")
        assert operator.make_token("many", new, key="a") == made
        other = operator.make_token("many", new, key="b")
        assert len({first, made.token, other.token}) == 3
        with pytest.raises(Conflict):
            operator.make_token("many", NewToken(scopes=["read"]), key="a")
        with pytest.raises(NotFound, match="no AAR"):
            operator.make_token("nobody", new)
        with pytest.raises(NotFound, match="no token"):
            operator.revoke_token("tok_none")
        assert operator.tokens("nobody") == []
    for path in running.run.platform.glob("platform.db*"):
        assert made.token.encode() not in path.read_bytes(), path


def test_an_aar_makes_and_ends_no_tokens(running: Running) -> None:
    with http(running, running.token("greedy")) as aar:
        for path in ("aars/greedy/tokens", "tokens/tok_x/revoke"):
            answer = aar.post(f"/v1/operator/{path}", content=b'{"scopes":["read"]}', headers=JSON)
            assert answer.status_code == 403
            assert problem_of(answer).code == Forbidden.code


@pytest.mark.parametrize(
    "body", ['{"scopes":[]}', '{"scopes":["admin"]}', '{"scopes":["read"],"aar":"x"}', "{}"]
)
def test_malformed_tokens(running: Running, body: str) -> None:
    with http(running, running.operator_token) as operator:
        answer = operator.post("/v1/operator/aars/x/tokens", content=body, headers=JSON)
    assert answer.status_code == 422 and problem_of(answer).code == "bad_input"
