"""A database that goes away: 503, nothing half-written, and all is well when it is back."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from platform_kit import Running, TinyTask, platform, spawn, wait_for
from postgres import PASSWORD, Postgres

from aarlab.client.platform import PlatformClient
from aarlab.core.layout import RunDir
from aarlab.core.wire import Score
from aarlab.server.__main__ import main
from aarlab.server.settings import ServerSettings
from aarlab.store.log import verify_log


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    server = Postgres()
    server.start()
    yield server
    server.remove()


def _http(running: Running, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "k"}
    transport = httpx.HTTPTransport(uds=str(running.run.socket), verify=False)
    return httpx.Client(
        base_url="http://platform", transport=transport, headers=headers, timeout=60
    )


def test_requests_answer_503_and_then_go_on(
    own_postgres: Postgres, tiny: TinyTask, run_dir: RunDir
) -> None:
    database = own_postgres.fresh()
    with platform(tiny, run_dir, "--task", "tiny", database=database) as running:
        token = running.token("a", submissions=2)
        body = running.submission(0.7).model_dump(mode="json")
        for number in (signal.SIGINT, signal.SIGQUIT):
            own_postgres.stop(number)
            with _http(running, token) as http:
                for _ in range(2):
                    for response in (
                        http.get("/v1/me"),
                        http.get("/v1/findings"),
                        http.post("/v1/submissions", json=body),
                        http.get("/v1/me", headers={"Authorization": "Bearer aar_unknown"}),
                    ):
                        assert response.status_code == 503, response.text
                        assert response.json()["code"] == "unavailable"
                        assert str(own_postgres.port) not in response.text
                assert http.get("/health").status_code == 200
                own_postgres.start()
                first = http.post("/v1/submissions", json=body)
                assert first.status_code == 200, first.text
                assert http.post("/v1/submissions", json=body).json() == first.json()
                assert http.get("/v1/me").json()["submissions_made"] == 1
        with running.operator() as operator:
            kinds = [record.kind for record in operator.log()]
        assert kinds == ["aar", "submission", "score"], "an outage is no refusal"
        assert "Traceback" not in running.log_text()
    assert verify_log(database).seq == 3


def test_a_stream_of_writes_outlives_stops_and_crashes_of_the_database(
    own_postgres: Postgres, tiny: TinyTask, run_dir: RunDir
) -> None:
    per_aar, names = 20, ("one", "two")
    database = own_postgres.fresh()
    answers: dict[str, list[Score]] = {name: [] for name in names}
    failures: list[Exception] = []
    with platform(tiny, run_dir, "--task", "tiny", database=database) as running:
        tokens = {name: running.token(name) for name in names}

        def stream(name: str) -> None:
            try:
                with PlatformClient(running.address, tokens[name], deadline_s=90) as aar:
                    for number in range(per_aar):
                        submission = running.submission(0.5 + number / 100, seed=number)
                        answers[name].append(aar.submit(submission, key=f"n{number}"))
            except Exception as error:  # noqa: BLE001 - shown by the main thread
                failures.append(error)

        threads = [threading.Thread(target=stream, args=(name,)) for name in names]
        for thread in threads:
            thread.start()
        for reached, number in ((3, signal.SIGQUIT), (8, signal.SIGINT), (13, signal.SIGQUIT)):
            wait_for(lambda at=reached: failures or len(answers["one"]) >= at, 60)
            own_postgres.stop(number)
            own_postgres.start()
        for thread in threads:
            thread.join(120)
        assert not failures, failures
        for name, token in tokens.items():
            with PlatformClient(running.address, token) as aar:
                assert [item.score for item in aar.submissions()] == answers[name]
                assert len({score.submission for score in answers[name]}) == per_aar
        with running.operator() as operator:
            kinds = [record.kind for record in operator.log()]
    assert kinds.count("submission") == kinds.count("score") == 2 * per_aar
    assert "refusal" not in kinds
    assert verify_log(database).seq == len(kinds)


def _secret_is_nowhere(run: RunDir, secret: str) -> None:
    for path in run.path.rglob("*"):
        if path.is_file():
            assert secret.encode() not in path.read_bytes(), path


def test_a_password_works_and_is_written_nowhere(
    own_postgres: Postgres, tiny: TinyTask, run_dir: RunDir, tmp_path, monkeypatch
) -> None:
    url = own_postgres.over_tcp(own_postgres.fresh())
    assert PASSWORD in url
    with platform(tiny, run_dir, database=url) as running:
        running.token("a")
        assert PASSWORD.encode() not in Path(f"/proc/{running.process.pid}/cmdline").read_bytes()
        own_postgres.stop(signal.SIGQUIT)
        with _http(running, running.operator_token) as http:
            assert http.get("/v1/operator/log").status_code == 503
        own_postgres.start()
    _secret_is_nowhere(run_dir, PASSWORD)
    monkeypatch.setenv("AARLAB_SERVER_DATABASE", url)
    settings = ServerSettings(run=run_dir.path, data=tiny.data.path)
    assert PASSWORD not in repr(settings) + str(settings) + settings.model_dump_json()
    assert settings.place(run_dir) == url
    monkeypatch.delenv("AARLAB_SERVER_DATABASE")
    file = tmp_path / "url"
    file.write_text(f"{url}\n")
    with platform(tiny, run_dir, "--database-file", str(file)) as running, running.operator() as o:
        assert [record.kind for record in o.log()] == ["aar"]


def test_a_wrong_password_stops_the_start_and_is_not_shown(
    postgres: Postgres, tiny: TinyTask, run_dir: RunDir
) -> None:
    wrong = "wrong-77aa"
    process = spawn(tiny, run_dir, database=postgres.over_tcp(postgres.fresh(), wrong))
    assert process.wait(60) == 1
    said = (run_dir.path / "server.log").read_text()
    assert "password authentication failed" in said and "Traceback" not in said
    _secret_is_nowhere(run_dir, wrong)


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@host/db",
        "postgresql+asyncpg://me:s3cret@host/db",
        "postgresql://me@host/db?password=s3cret",
        "postgresql://me:s3cret@host:nonsense/db",
        "mysql://me:s3cret@host/db",
        "s3cret",
        "postgresql://me@host/db?s3cret&x=s3cret",
    ],
)
def test_a_password_on_the_command_line_is_refused(
    tiny: TinyTask, run_dir: RunDir, capsys: pytest.CaptureFixture[str], url: str
) -> None:
    words = ["--run", str(run_dir.path), "--root", str(tiny.data.path), "--database", url]
    assert main(words) == 1
    said = capsys.readouterr().err
    assert "s3cret" not in said and said.startswith("aarlab server: ")
    assert not run_dir.path.exists()
