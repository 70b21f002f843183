"""Long polls of AARs and pods, and the supervisor's question of what changed."""

import random
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
from platform_kit import Running, TinyTask, platform, stop

from aarlab.campaign.looking import Known
from aarlab.client.platform import PlatformClient, PodClient
from aarlab.core.errors import BadInput, Forbidden, Superseded
from aarlab.core.layout import RunDir
from aarlab.core.supervision import pod_key, supervisor_key
from aarlab.core.wire import NewFinding, PodPoll, Spend
from aarlab.core.wire_ledger import Limits, ModelCall, NewControl
from aarlab.core.wire_service import NewWait

LONG_S = 60.0


@pytest.fixture
def own(tiny: TinyTask, run_dir: RunDir) -> Iterator[Running]:
    """A server whose whole campaign may be steered."""
    with platform(tiny, run_dir, "--task", "tiny") as started:
        yield started


def supervisor(running: Running, name: str, token: str) -> PlatformClient:
    key = supervisor_key(running.operator_token, name)
    return PlatformClient(running.address, token, 20, key)


def pod(running: Running, *aars: str) -> PodClient:
    return PodClient(running.address, pod_key(running.operator_token, aars), 20)


def test_a_poll_is_answered_when_the_operator_wants_something(own: Running) -> None:
    with (
        own.aar("waits") as aar,
        own.aar("other") as other,
        own.operator() as operator,
        ThreadPoolExecutor() as threads,
    ):
        assert aar.wanted("pause", LONG_S).wanted == "run", "it differs already"
        waiting = threads.submit(aar.wanted, "run", LONG_S)
        operator.control("waits", NewControl(action="pause", by="Ada"))
        assert waiting.result(20).wanted == "pause"
        assert other.wanted("run", 0.0).wanted == "run"
        waiting = threads.submit(other.wanted, "run", LONG_S)
        operator.control(None, NewControl(action="stop", by="Ada"))
        assert waiting.result(20).wanted == "stop"
        assert aar.wanted("pause", LONG_S).wanted == "stop", "the stricter counts"


def test_a_poll_of_an_older_life_ends_when_a_newer_one_begins(running: Running) -> None:
    token = running.token("twice")
    with (
        supervisor(running, "twice", token) as old,
        supervisor(running, "twice", token) as new,
        ThreadPoolExecutor() as threads,
    ):
        old.open_session()
        waiting = threads.submit(old.wanted, "run", LONG_S)
        threading.Event().wait(0.5)  # it is under way
        new.open_session()
        with pytest.raises(Superseded):
            waiting.result(20)
        assert old.life.over.is_set()


def test_a_server_that_ends_answers_the_polls_first(own: Running) -> None:
    with own.aar("waits") as aar, ThreadPoolExecutor() as threads:
        waiting = threads.submit(aar.wanted, "run", LONG_S)
        threading.Event().wait(0.5)
        assert stop(own.process) == 0
        assert waiting.result(20).wanted == "run"


def test_a_pod_asks_for_all_its_aars(running: Running) -> None:
    names = ("ada", "bea", "cleo")
    tokens = {name: running.token(name) for name in names}
    with (
        pod(running, *names) as mine,
        running.operator() as operator,
        supervisor(running, "ada", tokens["ada"]) as ada,
        ThreadPoolExecutor() as threads,
    ):
        lives = {"ada": ada.open_session().life, "bea": 0, "cleo": 0}
        known = mine.poll(PodPoll(aars=lives, wait_s=LONG_S)).wanted
        assert known == dict.fromkeys(names, "run"), "it knew nothing, and is told at once"
        seen = {aar.name: aar.last_seen_at for aar in operator.aars()}
        assert seen["ada"] is not None and seen["bea"] is None, "only processes that live"
        waiting = threads.submit(mine.poll, PodPoll(aars=lives, known=known, wait_s=LONG_S))
        operator.control("bea", NewControl(action="stop", by="Ada"))
        assert waiting.result(20).wanted == {**known, "bea": "stop"}
        with supervisor(running, "ada", tokens["ada"]) as moved:
            moved.open_session()
            said = mine.poll(PodPoll(aars=lives, known=known | {"bea": "stop"}, wait_s=LONG_S))
            assert said.superseded == ["ada"]


def test_a_pods_key_opens_its_own_aars_alone(running: Running) -> None:
    for name in ("dora", "elsa"):
        running.token(name)
    with pod(running, "dora") as mine:
        for aars in ({"elsa": 0}, {"dora": 0, "elsa": 0}, {"dora": 1, "dora ": 1}):
            with pytest.raises((Forbidden, BadInput)):
                mine.poll(PodPoll.model_construct(aars=aars, known={}, wait_s=0.0))
    key = pod_key(running.operator_token, ["dora"])
    with PlatformClient(running.address, key, 20) as aar:
        for ask in (aar.me, aar.open_session, aar.snapshots):
            with pytest.raises(Forbidden):
                ask()
    with pytest.raises(Forbidden), PodClient(running.address, running.token("fay"), 20) as aar:
        aar.poll(PodPoll(aars={"fay": 0}))


def test_changes_are_all_that_changed(own: Running) -> None:
    """After any writes, what a look knows is what the platform says in full."""
    rng = random.Random(7)
    opened, clients = ExitStack(), dict[str, PlatformClient]()
    for name in ("a1", "a2", "a3"):
        token = own.token(name, dollars=50.0, hours=9.0)
        clients[name] = opened.enter_context(supervisor(own, name, token))
        clients[name].open_session()
    known, calls = Known(), iter(range(1000))
    post = NewFinding(kind="insight", title="t", text="x")
    acts = {
        "spend": lambda aar, _: aar.spend(Spend(kind="device_s", amount=1)),
        "call": lambda aar, _: aar.record_call(
            ModelCall(call=f"c{next(calls)}", model="m", dollars=0.1)
        ),
        "wait": lambda aar, _: aar.wait(NewWait(kind="budget", note="n", ago_s=0)),
        "again": lambda aar, _: aar.wait(NewWait(kind="research", note="", ago_s=0)),
        "submit": lambda aar, _: aar.submit(own.submission(0.7)),
        "finding": lambda aar, _: aar.post_finding(post),
        "session": lambda aar, _: aar.open_session(),
        "alive": lambda aar, _: aar.me(),
        "pause": lambda _, name: operator.control(name, NewControl(action="pause", by="A")),
        "resume": lambda _, name: operator.control(name, NewControl(action="resume", by="A")),
        "more": lambda _, name: operator.control(
            name, NewControl(action="extend", add=Limits(dollars=1.0), by="A")
        ),
        "all": lambda _, _name: operator.control(None, NewControl(action="resume", by="A")),
        "new": lambda _, _name: own.token(f"n{next(calls)}"),
    }
    with opened, own.operator() as operator:
        for _ in range(12):
            for act in rng.sample(list(acts.values()), 3):
                name = rng.choice(list(clients))
                act(clients[name], name)
            known.refresh(operator)
            assert list(known.aars) == operator.aars()
            assert known.controls == operator.controls()
        threading.Event().wait(1.1)  # signs of life are recorded once a second
        clients["a1"].me()
        known.refresh(operator)
        assert list(known.aars) == operator.aars(), "a sign of life is in no entry of the log"
        quiet = operator.changes(*known._cursor)
        assert quiet.kinds == []
        with pytest.raises(BadInput):
            operator.changes(1, "yesterday")
