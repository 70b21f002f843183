"""What the key of a verification pod opens: a claimed re-run and what it reads, nothing else."""

import base64
import json
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from platform_kit import Running
from starlette.routing import Route

from aarlab.client.verifier import VerifierClient
from aarlab.core.errors import BadInput, Conflict, NotFound, Superseded
from aarlab.core.supervision import pod_key, verifier_key
from aarlab.core.wire import (
    NewSnapshot,
    NewVerification,
    Run,
    SnapshotFile,
    Verification,
    VerificationResult,
)
from aarlab.server.app import ROUTERS
from aarlab.server.routes import kept, pods, verifiers
from aarlab.testbed.tasks.task import load_inputs

POD = "verifiers-1"
SOURCE = base64.b64encode(b"def fit(task, student, seed):\n    raise ValueError\n").decode()


@pytest.fixture(scope="module")
def snapshot(gauss: Running) -> str:
    with gauss.aar("verifiers-author") as author:
        file = SnapshotFile(path="method.py", content_b64=SOURCE)
        return author.put_snapshot(NewSnapshot(name="m", files=[file])).id


def pod(gauss: Running, name: str = POD) -> VerifierClient:
    key = verifier_key(gauss.operator_token, name)
    client = VerifierClient(gauss.address, key, name, deadline_s=5)
    client.join()
    return client


@pytest.fixture
def queued(gauss: Running, snapshot: str) -> Iterator[list[str]]:
    """Two re-runs that wait: of selection, and of certify."""
    with gauss.operator() as operator:
        made = []
        for split in ("selection", "certify"):
            wanted = NewVerification(snapshot=snapshot, task="gauss", split=split, n_seeds=2)
            made.append(operator.request_verification(wanted).id)
        yield made
        for one in operator.verifications("queued"):
            operator.settle(one.id, VerificationResult(error="the test is over"))


def fetched(client: VerifierClient, run: str) -> dict[str, bytes]:
    names = client.material(run).files
    return {n: b"".join(client.parts(run, n)) for n in names if not n.startswith("public/")}


def http(gauss: Running, key: str) -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(gauss.run.socket), verify=False)
    return httpx.Client(
        base_url="http://platform",
        transport=transport,
        headers={"Authorization": f"Bearer {key}", "Idempotency-Key": "k"},
    )


def test_the_key_opens_no_route_of_aars_operator_or_pods(gauss: Running) -> None:
    key = verifier_key(gauss.operator_token, POD)
    with http(gauss, key) as client:
        for router in (*ROUTERS, pods.router, kept.router):
            for route in router.routes:
                assert isinstance(route, Route)
                path = route.path.replace("{", "").replace("}", "")
                for method in route.methods or ():
                    body = {"aars": {"rowan": 0}} if path == "/v1/pod/poll" else {"pod": "p"}
                    answer = client.request(method, path, json=body)
                    assert answer.status_code in (401, 403, 422), (path, answer.status_code)
                    if answer.status_code == 422:  # a pod's body is looked at before its key
                        assert path.startswith("/v1/pod/"), path
        for method, path in (("GET", "/"), ("POST", "/mcp"), ("GET", "/v1/openapi.json")):
            assert client.request(method, path).status_code in (401, 403, 303, 307), path


def test_its_routes_want_the_key_of_the_very_pod(gauss: Running, queued: list[str]) -> None:
    token = gauss.token("verifiers-nobody")
    others = [token, gauss.operator_token, verifier_key(gauss.operator_token, "verifiers-2")]
    others += [pod_key(gauss.operator_token, [POD]), verifier_key("op_guess", POD)]
    call = {"pod": POD, "number": 1, "run": queued[0], "runs": [], "result": {}}
    fields = {"join": ["pod"], "claim": ["pod", "number", "runs"], "part": ["pod", "number", "run"]}
    fields |= dict.fromkeys(("renew", "release"), fields["claim"])
    fields |= dict.fromkeys(("snapshot", "material"), fields["part"])
    fields |= {"settle": [*fields["part"], "result"]}
    paths = {route.path.rpartition("/")[2] for route in verifiers.router.routes}
    assert paths == set(fields), "a new route is tried here, too"
    for key in others:
        with http(gauss, key) as client:
            for name, given in fields.items():
                body = {field: call[field] for field in given}
                if name == "part":
                    answer = client.get(f"/v1/verifier/{name}", params={**body, "name": "x"})
                else:
                    answer = client.post(f"/v1/verifier/{name}", json=body)
                assert answer.status_code == 403, (name, answer.text)
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(gauss.run.socket))) as client:
        assert client.post("http://p/v1/verifier/join", json={"pod": POD}).status_code == 401


def test_nothing_is_open_before_a_claim_or_after_it(gauss: Running, queued: list[str]) -> None:
    def ask(client: VerifierClient, run: str) -> None:
        for name, request in (
            ("snapshot", lambda: client.snapshot(run)),
            ("material", lambda: client.material(run)),
            ("part", lambda: list(client.parts(run, "vault/inputs/selection.jsonl"))),
            ("settle", lambda: client.settle(run, VerificationResult(error="mine"))),
        ):
            with pytest.raises((Conflict, NotFound)):
                request()
            assert gauss_state(gauss, run) == "queued", name

    with pod(gauss) as client, pod(gauss, "verifiers-2") as other:
        for run in (*queued, "ver_000000000000"):
            if run in queued:
                ask(client, run)
        assert client.claim([]).id == queued[0]
        ask(other, queued[0])
        ask(client, queued[1])
        client.release()
        ask(client, queued[0])
        assert other.claim([]).id == queued[0]
        other.settle(queued[0], VerificationResult(error="it failed"))
        for request in (other.snapshot, other.material):
            with pytest.raises(Conflict, match="another has it, or it is settled"):
                request(queued[0])
        with pytest.raises(Conflict):
            other.settle(queued[0], VerificationResult(error="once more, otherwise"))
        other.settle(queued[0], VerificationResult(error="it failed"))  # the same: no harm


def gauss_state(gauss: Running, run: str) -> str:
    with gauss.operator() as operator:
        return operator.verification(run).state


def test_the_material_is_of_the_claimed_split_and_holds_no_truth(
    gauss: Running, queued: list[str]
) -> None:
    root = gauss.task.data
    vault = root.vault_task("gauss")
    with pod(gauss) as client:
        client.claim([])
        given = fetched(client, queued[0])
        for name, data in given.items():
            kind, _, path = name.partition("/")
            assert data == ((vault if kind == "vault" else root.path / kind) / path).read_bytes()
        hidden = {str(p.relative_to(vault)) for p in vault.rglob("*") if p.is_file()}
        wanted = {name.removeprefix("vault/") for name in given if name.startswith("vault/")}
        assert {p for p in hidden if p.startswith("truth/")} & wanted == set()
        assert "inputs/selection.jsonl" in wanted and "inputs/certify.jsonl" not in wanted
        assert "baselines.npz" not in wanted and "inputs/teacher.jsonl" not in wanted
        for path in sorted(hidden - wanted):
            for name in (
                f"vault/{path}",
                f"vault/inputs/../{path}",
                f"vault/./{path}",
                f"vault//{path}",
                f"VAULT/{path}",
                f"vault\\{path}",
                f"%76ault/{path}",
                str(vault / path),
                f"private/../vault/{vault.name}/{path}",
                f"public/../../vault/{vault.name}/{path}",
            ):
                with pytest.raises(NotFound, match="no such file of this re-run"):
                    list(client.parts(queued[0], name))
        for name in ("", "public/task.json", "private/", "models", f"{'../' * 8}etc/passwd"):
            with pytest.raises((NotFound, BadInput)):
                list(client.parts(queued[0], name))


def test_settling_tells_a_pod_no_figure(gauss: Running, queued: list[str]) -> None:
    """Whatever it hands in, right or wrong, the answer is the same two words."""
    vault = gauss.task.data.vault_task("gauss")
    lines = (vault / "truth" / "selection.jsonl").read_text().splitlines()
    truth = {row["id"]: row["label"] for row in map(json.loads, lines) if "id" in row}
    ids = [row.id for row in load_inputs(vault / "inputs" / "selection.jsonl")]
    right_N = np.array([truth[name] for name in ids], dtype=float)
    with gauss.operator() as operator:
        again = NewVerification(
            snapshot=operator.verification(queued[0]).snapshot, task="gauss", n_seeds=2
        )
        second = operator.request_verification(again, key="again-for-a-figure").id
    heard = []
    key = verifier_key(gauss.operator_token, POD)
    with pod(gauss) as client, http(gauss, key) as plain:
        held: list[str] = []
        while (run := client.claim(held)) is not None:
            held.append(run.id)
        assert set(held) == {*queued, second}
        for run_id, probs_N in ((queued[0], right_N), (second, 1.0 - right_N)):
            found = as_claimed(gauss, run_id)
            runs = [Run(seed=seed, probs=probs_N.tolist()) for seed in found.run_seeds]
            result = VerificationResult(ids=ids, runs=runs)
            body = {"pod": POD, "number": client.number, "run": run_id}
            body |= {"result": result.model_dump(mode="json")}
            heard.append(plain.post("/v1/verifier/settle", json=body).text)
        client.release()
    assert heard == ['{"state":"done"}'] * 2
    with gauss.operator() as operator:
        best, worst = (operator.verification(run).accuracy for run in (queued[0], second))
    assert (best, worst) == (1.0, 0.0), "the platform scored both"


def as_claimed(gauss: Running, run: str) -> Verification:
    with gauss.operator() as operator:
        return operator.verification(run)


def test_what_is_claimed_has_no_figure_and_the_log_says_who_did_it(
    gauss: Running, queued: list[str]
) -> None:
    with pod(gauss) as client, gauss.operator() as operator:
        run = client.claim([])
        assert (run.estimate, run.accuracy, run.evidence) == (None, None, None)
        [lease] = operator.leases()
        assert (lease.run, lease.pod, lease.number) == (run.id, POD, client.number)
        client.settle(run.id, VerificationResult(error="it failed"))
        assert operator.leases() == []
        kinds = {"verifier", "verification_claimed", "verified"}
        last = [e for e in operator.log(after=operator.head().seq - 4) if e.kind in kinds]
        assert [e.kind for e in last[-2:]] == ["verification_claimed", "verified"]
        assert last[-1].body["by"] == f"{POD}/{client.number}"


def test_an_older_process_of_a_pod_is_refused(gauss: Running, queued: list[str]) -> None:
    with pod(gauss) as old:
        run = old.claim([]).id
        with pod(gauss) as new:
            requests = (
                lambda: old.claim([run]),
                lambda: old.renew([run]),
                lambda: old.release(),
                lambda: old.snapshot(run),
                lambda: old.material(run),
                lambda: list(old.parts(run, "vault/inputs/selection.jsonl")),
                lambda: old.settle(run, VerificationResult(error="late")),
            )
            for request in requests:
                with pytest.raises(Superseded, match=f"a newer process of {POD} has begun"):
                    request()
            assert new.claim([]).id == run, "what it held is free at once"
            new.release()


def test_bad_requests(gauss: Running, queued: list[str]) -> None:
    with pod(gauss) as client:
        client.claim([])
        with http(gauss, verifier_key(gauss.operator_token, POD)) as plain:
            base = {"pod": POD, "number": client.number, "run": queued[0]}
            for bad in (
                {"number": 0},
                {"number": 2**31},
                {"run": "../x"},
                {"extra": 1},
                {"pod": ""},
            ):
                assert plain.post("/v1/verifier/material", json={**base, **bad}).status_code == 422
            for bad in ({"at": -1}, {"at": 2**60}, {"name": "x" * 300}):
                query = {**base, "name": "vault/inputs/selection.jsonl", **bad}
                assert plain.get("/v1/verifier/part", params=query).status_code == 422
        with pytest.raises(BadInput, match="expected one run for each of its 2 drawn seeds"):
            client.settle(queued[0], VerificationResult(ids=["a"], runs=[]))
        assert client.settle(queued[0], VerificationResult(error="then so")).state == "failed"
        client.release()
