"""The OpenAPI document says what is: routes of the caller, models, errors, examples that hold."""

import json

import pytest
from http_kit import http, problem_of
from platform_kit import Running
from pydantic import BaseModel

from aarlab.core import wire, wire_ledger, wire_service
from aarlab.server.app import ROUTERS
from aarlab.server.openapi import ERRORS, document

ROUTES = [route for router in ROUTERS for route in router.routes]
WHOLE = document(ROUTES, operator=True)
OPERATIONS = [
    (method, path, operation)
    for path, methods in WHOLE["paths"].items()
    for method, operation in methods.items()
]
PROBLEM = {"$ref": "#/components/schemas/Problem"}


def references(value: object) -> set[str]:
    if isinstance(value, dict):
        here = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return here.union(*(references(inner) for inner in value.values()))
    return (
        set().union(*(references(inner) for inner in value)) if isinstance(value, list) else set()
    )


@pytest.mark.parametrize(
    ("method", "path", "operation"), OPERATIONS, ids=lambda v: v if isinstance(v, str) else ""
)
def test_every_route_has_a_summary_a_response_and_its_errors(method, path, operation) -> None:
    assert operation["summary"]
    assert operation.get("description") or path.startswith("/v1/operator"), "no docstring"
    content = operation["responses"]["200"]["content"]
    assert "application/x-tar" in content or content["application/json"]["schema"], path
    expected = {401, 403, 404, 422, 429, 500, 503}
    expected |= {304} if method == "get" else {409, 413}
    assert expected <= {int(code) for code in operation["responses"]}
    for code, response in operation["responses"].items():
        assert response["description"]
        if int(code) in ERRORS:
            assert response["content"]["application/json"]["schema"] == PROBLEM
    if method != "get":
        names = [parameter["name"] for parameter in operation["parameters"]]
        assert "Idempotency-Key" in names


def test_all_routes_are_described_and_all_references_lead_somewhere() -> None:
    assert len(OPERATIONS) == sum(len(route.methods) for route in ROUTES) >= 32
    known = {f"#/components/schemas/{name}" for name in WHOLE["components"]["schemas"]}
    assert references(WHOLE) <= known
    assert "HTTPValidationError" not in json.dumps(WHOLE)


def test_budgets_are_among_the_errors_of_what_costs() -> None:
    for path in ("/v1/submissions", "/v1/methods"):
        assert "402" in WHOLE["paths"][path]["post"]["responses"]


def test_examples_are_valid() -> None:
    models = {**vars(wire), **vars(wire_service), **vars(wire_ledger), **vars(wire_service)}
    shown = 0
    for name, schema in WHOLE["components"]["schemas"].items():
        model = models.get(name)
        for example in schema.get("examples", []):
            assert isinstance(model, type) and issubclass(model, BaseModel)
            model.model_validate(example)
            shown += 1
    assert shown >= 8


def test_a_token_sees_its_own_routes_only(running: Running) -> None:
    with http(running) as nobody:
        assert nobody.get("/v1/openapi.json").status_code == 401
    with http(running, "aar_nonsense") as stranger:
        assert problem_of(stranger.get("/v1/openapi.json")).code == "forbidden"
    with http(running, running.token("documented")) as aar:
        mine = aar.get("/v1/openapi.json").json()
    with http(running, running.operator_token) as operator:
        assert operator.get("/v1/openapi.json").json() == json.loads(json.dumps(WHOLE))
    assert "/v1/submissions" in mine["paths"] and "/v1/methods" in mine["paths"]
    text = json.dumps(mine)
    for hidden in ("/v1/operator", "CampaignExport", "VerificationResult", "certify", "Accuracy"):
        assert hidden not in text
