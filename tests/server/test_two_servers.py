"""Two server processes on one PostgreSQL are one platform: what one knows, the other knows."""

import shutil
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from platform_kit import Running, TinyTask, spawn, start, stop, wait_for
from postgres import Postgres

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BudgetExhausted, Conflict, Forbidden, TooManyRequests, Unreachable
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewAar, NewFinding, NewSnapshot, Score, SnapshotFile, Spend
from aarlab.core.wire_ledger import NewControl
from aarlab.core.wire_service import NewToken
from aarlab.store.log import verify_log

THREADS = 8
# httpcore leaves the socket of a refused connection to the garbage collector, which then complains
pytestmark = [
    pytest.mark.gate,
    pytest.mark.filterwarnings(
        "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
    ),
]


def _second_run(first: RunDir, folder: Path) -> RunDir:
    """A run folder on another machine: the operator has copied the tokens there."""
    second = RunDir(folder)
    shutil.copytree(first.tokens, second.tokens)
    second.platform.chmod(0o700)
    return second


@pytest.fixture
def pair(tiny: TinyTask, tmp_path: Path, postgres: Postgres) -> Iterator[list[Running]]:
    database, blobs = postgres.fresh(), ("--blobs", str(tmp_path / "blobs"))
    first = start(tiny, RunDir(tmp_path / "a"), *blobs, "--task", "tiny", database=database)
    run = _second_run(first.run, tmp_path / "b")
    servers = [first, start(tiny, run, *blobs, "--task", "tiny", database=database)]
    yield servers
    for server in servers:
        stop(server.process)
        # A write that another had run into would show here as a crash that the client retried.
        assert "ERROR" not in server.log_text(), server.log_text()[-2000:]
    verify_log(database)


def _client(server: Running, token: str, deadline_s: float = 60) -> PlatformClient:
    return PlatformClient(server.address, token, deadline_s=deadline_s)


def _together(pair: list[Running], token: str, act: Callable[[PlatformClient, int], object]):
    """`act` on both servers from many threads at once, each with a client of its own."""

    def one(number: int) -> object:
        with _client(pair[number % 2], token) as aar:
            return act(aar, number)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(one, range(THREADS)))


def test_equal_keys_sent_to_both_at_once_answer_equally(pair: list[Running]) -> None:
    token = pair[0].token("twin", submissions=1)
    submission = pair[0].submission(0.7)
    answers = _together(pair, token, lambda aar, _: aar.submit(submission, key="same"))
    assert len({answer.submission for answer in answers}) == 1
    with _client(pair[1], token) as aar:
        assert len(aar.submissions()) == 1 and aar.me().submissions_left == 0


def test_a_budget_is_counted_once_over_both(pair: list[Running]) -> None:
    token = pair[0].token("few", submissions=3)

    def submit(aar: PlatformClient, number: int) -> str:
        try:
            aar.submit(pair[0].submission(0.6, number), key=f"n{number}")
        except BudgetExhausted:
            return "exhausted"
        return "scored"

    answers = _together(pair, token, submit)
    assert answers.count("scored") == 3 and answers.count("exhausted") == THREADS - 3
    _together(pair, token, lambda aar, n: aar.spend(Spend(kind="device_s", amount=1), key=f"s{n}"))
    with _client(pair[1], token) as aar:
        assert aar.me().submissions_made == 3 and aar.me().spend == {"device_s": THREADS}


def test_what_one_takes_the_other_knows(pair: list[Running]) -> None:
    """Tokens, the incumbent, snapshots and findings of one server, asked of the other."""
    token = pair[0].token("nomad")
    file = SnapshotFile(path="method.py", content_b64="eCA9IDEK")
    with _client(pair[0], token) as here, _client(pair[1], token) as there:
        best = here.submit(pair[0].submission(0.85))
        worse = there.submit(pair[0].submission(0.5, 1))
        assert worse.pgr == best.pgr and not worse.improved
        snapshot = here.put_snapshot(NewSnapshot(name="m", files=[file]))
        assert there.read_snapshot_file(snapshot.id, "method.py") == "x = 1\n"
        post = NewFinding(kind="result", title="t", text="", submission=best.submission)
        assert here.finding(there.post_finding(post).id).score == best
    new = NewAar(name="both", researcher="r", direction="d")
    with pair[0].operator() as one, pair[1].operator() as other:
        assert one.register(new) == other.register(new)
        with pytest.raises(Conflict, match="already"):
            other.register(new, key="another")
    with pair[0].operator() as operator:
        refusals = [r for r in operator.log() if r.kind == "refusal"]
    assert len(refusals) == 1


def test_kill_9_of_one_under_load_loses_and_doubles_nothing(
    pair: list[Running], tiny: TinyTask, tmp_path: Path
) -> None:
    """Equal keys go to both; who finds its server dead asks the other with the same key."""
    token, per_thread = pair[0].token("hammer"), 12
    answers: list[dict[str, Score]] = [{} for _ in range(4)]
    failures: list[Exception] = []

    def hammer(thread: int) -> None:
        try:
            clients = [_client(server, token, 1) for server in pair]
            for number in range(per_thread):
                key, at = f"k{number}", (thread + number) % 2
                submission = tiny_submission(number)
                try:
                    answers[thread][key] = clients[at].submit(submission, key=key)
                except Unreachable:
                    answers[thread][key] = clients[1 - at].submit(submission, key=key)
            for client in clients:
                client.close()
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    def tiny_submission(number: int):
        return pair[0].submission(0.5 + number / 100, seed=number)

    threads = [threading.Thread(target=hammer, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: failures or len(answers[0]) >= 3)
    pair[1].process.kill()
    for thread in threads:
        thread.join(120)
    assert not failures, failures
    assert answers[0] == answers[1] == answers[2] == answers[3]
    assert len({score.submission for score in answers[0].values()}) == per_thread
    with pair[0].operator() as operator:
        kinds = [record.kind for record in operator.log()]
        assert kinds.count("submission") == kinds.count("score") == per_thread
    pair[1].process.wait()
    blobs = ("--blobs", str(tmp_path / "blobs"))
    pair[1] = start(tiny, pair[1].run, *blobs, "--task", "tiny", database=pair[1].database)
    with _client(pair[1], token) as aar:
        assert aar.submit(tiny_submission(3), key="k3") == answers[0]["k3"]
        assert len(aar.submissions()) == per_thread


def test_servers_that_could_not_act_as_one_are_refused(
    pair: list[Running], tiny: TinyTask, tmp_path: Path
) -> None:
    def refusal(run: RunDir, *options: str) -> str:
        process = spawn(tiny, run, *options, database=pair[0].database)
        assert process.wait(60) == 1
        return (run.path / "server.log").read_text()

    blobs = ("--blobs", str(tmp_path / "blobs"))
    assert "another operator token" in refusal(RunDir(tmp_path / "c"), *blobs)
    own_folder = _second_run(pair[0].run, tmp_path / "d")
    assert "another repository of snapshots" in refusal(own_folder)
    other_key = _second_run(pair[0].run, tmp_path / "e")
    other_key.signing_key.unlink()
    other_key.public_key.unlink()
    assert "another signing key" in refusal(other_key, *blobs)


def test_a_token_revoked_on_one_server_ends_on_the_other(pair: list[Running]) -> None:
    first, second = pair
    first.token("short")
    with first.operator() as operator:
        issued = operator.make_token("short", NewToken(scopes=["read"]))
        with _client(second, issued.token) as other:
            assert other.me().name == "short"  # it is in the second server's cache now
            operator.revoke_token(issued.record.id)

            def refused() -> bool:
                try:
                    return not other.me()
                except Forbidden:
                    return True

            wait_for(refused, seconds=5)


def test_a_rate_is_one_rate_over_both(
    tiny: TinyTask, tmp_path: Path, postgres: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two servers, requests on both in turn: as many pass as one server would let pass."""
    monkeypatch.setenv("AARLAB_SERVER_REQUESTS_PER_S", "0.01")
    monkeypatch.setenv("AARLAB_SERVER_REQUEST_BURST", "40")
    database, blobs = postgres.fresh(), ("--blobs", str(tmp_path / "blobs"))
    first = start(tiny, RunDir(tmp_path / "a"), *blobs, database=database)
    second = start(tiny, _second_run(first.run, tmp_path / "b"), *blobs, database=database)
    try:
        tokens = [first.token(name) for name in ("flood", "calm")]
        passed = Counter[str]()
        for number in range(100):
            with _client((first, second)[number % 2], tokens[0], deadline_s=0.0) as aar:
                try:
                    aar.me()
                    passed["flood"] += 1
                except TooManyRequests as error:
                    assert error.retry_after_s >= 1
        assert passed["flood"] == 40
        with _client(second, tokens[1]) as aar:
            assert aar.me().name == "calm", "a flood by one AAR is no other's"
    finally:
        for server in (first, second):
            stop(server.process)


def test_a_poll_learns_what_was_asked_for_on_the_other_server(pair: list[Running]) -> None:
    first, second = pair
    with (
        first.aar("waits") as aar,
        second.operator() as operator,
        ThreadPoolExecutor() as threads,
    ):
        assert aar.wanted("run", 0.0).wanted == "run"
        waiting = threads.submit(aar.wanted, "run", 60.0)
        operator.control("waits", NewControl(action="pause", by="Ada"))
        assert waiting.result(30).wanted == "pause"
