"""Hostile or broken requests get a Problem that says why: no 500, no echo, nothing written."""

import json

import httpx
import pytest
from platform_kit import Running, TinyTask, platform
from starlette.routing import Route

from aarlab.core.errors import Forbidden
from aarlab.core.wire import Problem
from aarlab.server.app import ROUTERS

ROUTES = [
    (method, route.path)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, Route)
    for method in route.methods or ()
]


def _http(running: Running, token: str = "") -> httpx.Client:
    transport = httpx.HTTPTransport(uds=str(running.run.socket), verify=False)
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url="http://platform", transport=transport, headers=headers)


def _problem(response: httpx.Response) -> Problem:
    assert 400 <= response.status_code < 500, response.text
    assert len(response.content) < 1500
    return Problem.model_validate_json(response.content)


def _fill(path: str) -> str:
    return path.replace("{", "").replace("}", "")


@pytest.fixture(scope="module")
def token(running: Running) -> str:
    return running.token("hostile")


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_every_route_wants_the_right_token(running: Running, token: str, method, path) -> None:
    foreign = token if "/operator" in path else running.operator_token
    headers = {"Idempotency-Key": "k", "Content-Type": "application/json"}
    for given, status in (("", 401), ("aar_nonsense", 401), ("é" * 40, 401), (foreign, 403)):
        with _http(running) as http:
            if given:
                headers["Authorization"] = f"Bearer {given}".encode()
            response = http.request(method, _fill(path), headers=headers, content=b"{}")
        assert response.status_code == status, (given[:5], response.text)
        assert _problem(response).code == Forbidden.code
    with _http(running) as http:
        basic = http.request(method, _fill(path), headers={"Authorization": "Basic YTpi"})
    assert basic.status_code == 401


def test_routes_are_known() -> None:
    assert len(ROUTES) >= 22
    assert all(path.startswith("/v1/") for _, path in ROUTES)


SUBMISSION = '{"task":"tiny","method":"m","ids":["a"],"runs":[{"seed":0,"probs":[%s]}]}'
BODIES: dict[str, str | bytes] = {
    "nan": SUBMISSION % "NaN",
    "infinity": SUBMISSION % "Infinity",
    "huge float": SUBMISSION % "1e999",
    "over one": SUBMISSION % "1.5",
    "string": SUBMISSION % '"0.5"x',
    "null": SUBMISSION % "null",
    "huge int": SUBMISSION % ("9" * 5000),
    "huge seed": SUBMISSION.replace('"seed":0', f'"seed":{10**300}') % "0.5",
    "negative seed": SUBMISSION.replace('"seed":0', '"seed":-1') % "0.5",
    "lone surrogate": SUBMISSION.replace('"a"', '"\\ud800"') % "0.5",
    "surrogate in a name": '{"\\ud800":1}',
    "surrogate in the method": SUBMISSION.replace('"m"', '"\\udfff"') % "0.5",
    "other split": SUBMISSION.replace('"method"', '"split":"selection","method"') % "0.5",
    "extra field": SUBMISSION.replace('"method"', '"labels":[1],"method"') % "0.5",
    "extra field with a long name": json.dumps({"x" * 100_000: 1}),
    "wrong ids": SUBMISSION % "0.5",
    "long unknown id": SUBMISSION.replace('"a"', f'"{"z" * 100_000}"') % "0.5",
    "control characters": SUBMISSION.replace('"a"', '"a\\u0000\\u001b[2J"') % "0.5",
    "deep": "[" * 100_000,
    "deep and closed": '{"a":' * 2000 + "1" + "}" * 2000,
    "as deep as the stack allows": SUBMISSION.replace('"a"', "[" * 900 + "]" * 900) % "0.5",
    "a key twice": SUBMISSION.replace('"method":"m"', '"method":"a","method":"m"') % "0.5",
    "a probability that overflows": SUBMISSION % str(10**400),
    "surrogate as bytes": (SUBMISSION % "0.5").encode().replace(b'"m"', b'"\xed\xa0\x80"'),
    "utf-16": (SUBMISSION % "0.5").encode("utf-16"),
    "lists in a list": SUBMISSION % ("[]," * 600_000 + "0.5"),
    "empty": "",
    "list": "[]",
    "cut": SUBMISSION[:30],
    "no unicode": b"\xff\xfe{}",
    "other task": SUBMISSION.replace("tiny", "../tiny") % "0.5",
    "unknown snapshot": SUBMISSION.replace('"method"', '"snapshot":"HEAD","method"') % "0.5",
}


@pytest.mark.parametrize("name", BODIES)
def test_malformed_submissions(running: Running, token: str, name: str) -> None:
    body = BODIES[name]
    with _http(running, token) as http:
        response = http.post(
            "/v1/submissions",
            content=body if isinstance(body, bytes) else body.encode(),
            headers={
                "Idempotency-Key": f"bad-{abs(hash(name))}",
                "Content-Type": "application/json",
            },
        )
        assert _problem(response).code in ("bad_input", "not_found")
        assert http.get("/v1/submissions").json() == []
        assert http.get("/v1/me").json()["submissions_made"] == 0


WRITES = [path for method, path in ROUTES if method == "POST"]
FOREIGN = {
    "deep": b"[" * 100_000,
    "deep and closed": b'{"a":' * 900 + b"1" + b"}" * 900,
    "nan": b'{"a": NaN}',
    "infinity": b'{"a": -Infinity}',
    "huge integer": b'{"a": ' + b"9" * 5000 + b"}",
    "a key twice": b'{"a": 1, "a": 1}',
    "no utf-8": b'{"a": "\xff"}',
    "lone surrogate": b'{"a": "\\ud800"}',
}


@pytest.mark.parametrize("name", FOREIGN)
def test_every_write_refuses_foreign_json_with_a_reason(running, token: str, name: str) -> None:
    """Those without a body ignore it."""
    for path in WRITES:
        operator = "/operator" in path
        headers = {"Idempotency-Key": f"foreign-{name.replace(' ', '-')}"}
        headers["Content-Type"] = "application/json"
        with _http(running, running.operator_token if operator else token) as http:
            response = http.post(_fill(path), content=FOREIGN[name], headers=headers)
        if path in ("/v1/sessions", "/v1/operator/tokens/{token}/revoke"):
            assert response.status_code in (200, 404), (path, response.text)
            continue
        assert response.status_code == 422, (path, response.text)
        assert _problem(response).message.startswith("malformed request: "), (path, response.text)


@pytest.mark.parametrize("name", FOREIGN)
def test_mcp_refuses_foreign_json_in_its_own_form(running, token: str, name: str) -> None:
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    with _http(running, token) as http:
        response = http.post("/mcp", content=FOREIGN[name], headers=headers)
    assert response.status_code == 400
    told = response.json()
    assert told["jsonrpc"] == "2.0" and told["error"]["code"] == -32700
    assert told["error"]["message"].startswith("malformed request: ")


@pytest.mark.parametrize("key", [None, "", "a b", "x" * 101, "a/b", "ü"])
def test_a_write_needs_a_proper_key(running: Running, token: str, key: str | None) -> None:
    headers = {} if key is None else {"Idempotency-Key": key.encode()}
    with _http(running, token) as http:
        response = http.post("/v1/sessions", headers=headers)
    assert "Idempotency-Key" in _problem(response).message


@pytest.mark.parametrize(
    "path",
    [
        "/v1/findings?after=-1",
        "/v1/findings?after=99999999999999999999999999",
        "/v1/findings?limit=0",
        "/v1/findings?limit=101",
        "/v1/findings?after=x",
        "/v1/findings/%00",
        "/v1/findings/%ff",
        "/v1/findings/..%2f..",
        "/v1/snapshots/%27%20OR%201=1",
        "/v1/snapshots/" + "a" * 5000,
        "/v1/nothing",
        "/docs",
        "/openapi.json",
    ],
)
def test_odd_paths_and_queries(running: Running, token: str, path: str) -> None:
    with _http(running, token) as http:
        assert _problem(http.get(path)).code in ("bad_input", "not_found")


def test_bodies_over_the_limit_are_refused_declared_or_streamed(running, token: str) -> None:
    megabyte = b" " * 2**20
    headers = {"Idempotency-Key": "large", "Content-Type": "application/json"}

    def endless():
        for _ in range(40):
            yield megabyte

    with _http(running, token) as http:
        for content in (megabyte * 33, endless()):
            try:
                response = http.post("/v1/submissions", content=content, headers=headers)
            except httpx.WriteError:
                continue  # the server hung up before everything was sent: refused as well
            assert response.status_code == 413
            assert "33,554,432 bytes" in _problem(response).message
        assert http.get("/v1/me").status_code == 200


SNAPSHOT = {"name": "m", "files": [{"path": "method.py", "content_b64": ""}]}


@pytest.mark.parametrize("path", ["../x", "/etc/x", ".git/config", "a\\u0000b", "a/./b", ""])
def test_snapshots_that_would_leave_their_folder(running: Running, token: str, path: str) -> None:
    content = json.dumps(
        {"name": "m", "files": [*SNAPSHOT["files"], {"path": "PATH", "content_b64": ""}]}
    ).replace("PATH", path)
    with _http(running, token) as http:
        before = http.get("/v1/snapshots").json()
        response = http.post(
            "/v1/snapshots",
            content=content.encode(),
            headers={"Idempotency-Key": "snap", "Content-Type": "application/json"},
        )
        assert _problem(response).code == "bad_input"
        assert http.get("/v1/snapshots").json() == before


def test_refusals_are_in_the_log_without_their_content(running: Running, token: str) -> None:
    body = (SUBMISSION % "0.5").replace('"a"', '"secret-row"')
    with _http(running, token) as http:
        http.post(
            "/v1/submissions",
            content=body.encode(),
            headers={"Idempotency-Key": "logged", "Content-Type": "application/json"},
        )
    with running.operator() as operator:
        refusals = [record.body for record in operator.log() if record.kind == "refusal"]
    assert any(r["actor"] == "hostile" and r["code"] == "bad_input" for r in refusals)
    assert "secret-row" not in str(refusals)


def test_a_flood_is_slowed_down(tiny: TinyTask, run_dir, monkeypatch) -> None:
    monkeypatch.setenv("AARLAB_SERVER_REQUESTS_PER_S", "1")
    monkeypatch.setenv("AARLAB_SERVER_REQUEST_BURST", "5")
    with platform(tiny, run_dir) as running, _http(running, running.token("flooder")) as http:
        codes = [http.get("/v1/verified").status_code for _ in range(40)]
        assert set(codes) == {200, 429} and codes[:5] == [200] * 5
        with _http(running, running.token("neighbour")) as other:
            assert other.get("/v1/me").status_code == 200
