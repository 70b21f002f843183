"""Every write happens once: equal posts sent together, and kill -9 in the middle of a stream."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from platform_kit import Running, TinyTask, start, stop, wait_for

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, Conflict
from aarlab.core.wire import NewFinding, Score
from aarlab.store.log import verify_log

THREADS = 12
# httpcore leaves the socket of a refused connection to the garbage collector, which then complains
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)


def test_equal_posts_sent_together_are_one(running: Running) -> None:
    token = running.token("parallel", submissions=1)
    submission = running.submission(0.7)

    def submit(_: int) -> Score:
        with _client(running, token) as aar:
            return aar.submit(submission, key="same")

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(submit, range(THREADS)))
    assert len({answer.submission for answer in answers}) == 1
    with _client(running, token) as aar:
        assert len(aar.submissions()) == 1


def test_other_posts_with_the_same_key_conflict(running: Running) -> None:
    token = running.token("clashing")

    def post(number: int) -> str:
        with _client(running, token) as aar:
            try:
                title = f"n{number % 3}"
                aar.post_finding(NewFinding(kind="insight", title=title, text=""), key="same")
            except Conflict:
                return "conflict"
            return title

    with ThreadPoolExecutor(THREADS) as pool:
        answers = list(pool.map(post, range(THREADS)))
    assert answers.count("conflict") == THREADS * 2 // 3
    assert len(set(answers)) == 2


def test_a_key_is_free_again_after_a_refusal(running: Running, aar) -> None:
    good = running.submission(0.7)
    with pytest.raises(BadInput):
        aar.submit(good.model_copy(update={"ids": ["x"] * len(good.ids)}), key="k")
    assert aar.submit(good, key="k").improved


def test_the_same_key_of_two_aars_are_two_writes(running: Running) -> None:
    with running.aar("left") as left, running.aar("right") as right:
        post = NewFinding(kind="insight", title="t", text="")
        assert left.post_finding(post, key="k").id != right.post_finding(post, key="k").id


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_kill_9_in_the_middle_of_a_stream_loses_and_doubles_nothing(
    tiny: TinyTask, run_dir, kind: str, request: pytest.FixtureRequest
) -> None:
    per_aar, names = 16, ("one", "two")
    database = request.getfixturevalue("postgres").fresh() if kind == "postgresql" else None
    server = start(tiny, run_dir, "--task", "tiny", database=database)
    tokens = {name: server.token(name) for name in names}
    answers: dict[str, list[Score]] = {name: [] for name in names}
    failures: list[Exception] = []

    def stream(name: str) -> None:
        try:
            with _client(server, tokens[name]) as aar:
                for number in range(per_aar):
                    submission = server.submission(0.5 + number / 100, seed=number)
                    answers[name].append(aar.submit(submission, key=f"n{number}"))
        except Exception as error:  # noqa: BLE001 - shown by the main thread
            failures.append(error)

    threads = [threading.Thread(target=stream, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    try:
        for reached in (4, 11):
            wait_for(lambda at=reached: failures or len(answers["one"]) >= at)
            server.process.kill()
            server.process.wait()
            server = start(tiny, run_dir, "--task", "tiny", database=database)
        for thread in threads:
            thread.join(60)
        assert not failures, failures
        _check(server, tokens, answers, per_aar)
    finally:
        stop(server.process)
    assert verify_log(server.place).seq > 2 * 2 * per_aar


def _check(server: Running, tokens, answers, per_aar: int) -> None:
    for name, token in tokens.items():
        with _client(server, token) as aar:
            assert [item.score for item in aar.submissions()] == answers[name]
            assert len({score.submission for score in answers[name]}) == per_aar
            again = server.submission(0.5 + 3 / 100, seed=3)
            assert aar.submit(again, key="n3") == answers[name][3]
            # The incumbent outlives the restarts: a worse submission still shows the best.
            last = aar.submit(server.submission(0.4))
            assert last.pgr == answers[name][-1].pgr and not last.improved
    with server.operator() as operator:
        kinds = [record.kind for record in operator.log()]
    assert kinds.count("submission") == kinds.count("score") == len(tokens) * (per_aar + 1)


def _client(running: Running, token: str) -> PlatformClient:
    return PlatformClient(running.address, token, deadline_s=60)
