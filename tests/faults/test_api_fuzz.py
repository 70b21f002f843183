"""Every route of a real server against requests made from its own description.

No server error, and every answer is what the document promises, for each kind of token.
"""

import socket

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from platform_kit import Running, TinyTask, platform

from aarlab.core.layout import RunDir
from aarlab.server.app import ROUTERS
from aarlab.server.openapi import document

DOCUMENT = document([route for router in ROUTERS for route in router.routes], operator=True)
ROUTES = [
    f"{method.upper()} {path}" for path, methods in DOCUMENT["paths"].items() for method in methods
]
EXAMPLES, MANY = 6, 300


@pytest.fixture(scope="module")
def api(tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory):
    """A server without rates, or most answers would be 429."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    run = RunDir(tmp_path_factory.mktemp("fuzz"))
    with pytest.MonkeyPatch.context() as patch:
        for name in ("REQUESTS_PER_S", "REQUEST_BURST", "POSTS_PER_S", "POST_BURST"):
            patch.setenv(f"AARLAB_SERVER_{name}", "1000000")
        patch.setenv("AARLAB_SERVER_LONGEST_WAIT_S", "0.01")
        with platform(tiny, run, "--port", str(port)) as running:
            yield running, f"http://127.0.0.1:{port}"


def fuzz(api: tuple[Running, str], route: str, examples: int) -> None:
    import schemathesis  # takes a second, also where none of these tests is run
    from schemathesis.checks import not_a_server_error
    from schemathesis.specs.openapi import checks

    promises = [
        not_a_server_error,
        checks.status_code_conformance,
        checks.content_type_conformance,
        checks.response_schema_conformance,
    ]
    running, url = api
    method, path = route.split(" ")
    tokens = [running.operator_token, running.token("fuzzed"), "nobody"]
    operation = schemathesis.openapi.from_dict(DOCUMENT)[path][method]

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy())
    def sent(case: schemathesis.Case) -> None:
        for token in tokens:
            response = case.call(base_url=url, headers={"Authorization": f"Bearer {token}"})
            case.validate_response(response, checks=promises)

    sent()
    assert httpx.get(f"{url}/health", trust_env=False).status_code == 200
    assert "Traceback" not in running.log_text()


@pytest.mark.parametrize("route", ROUTES)
def test_no_request_breaks_a_route(api: tuple[Running, str], route: str) -> None:
    fuzz(api, route, EXAMPLES)


@pytest.mark.slow
@pytest.mark.parametrize("route", ROUTES)
def test_no_request_breaks_a_route_in_many_tries(api: tuple[Running, str], route: str) -> None:
    fuzz(api, route, MANY)
