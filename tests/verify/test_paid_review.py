"""Reviews by a paid model: booked under every crash, never past the cap, never clear unread."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from arena import Arena, open_arena
from fake_models import Conversation, FakeModels, Fault
from fake_models import Reply as FakeReply
from hacks import MAJORITY
from platform_kit import Running, platform, wait_for, write_task

from aarlab.campaign.status import status_of
from aarlab.client.operator import OperatorClient
from aarlab.core.layout import RunDir
from aarlab.core.wire import Audit
from aarlab.core.wire_ledger import OperatorCall, OperatorSpend
from aarlab.report.render import render_page
from aarlab.report.view import campaign_view
from aarlab.store.log import verify_log
from aarlab.verify.__main__ import main as verify
from aarlab.verify.review import Reviewer, Unpriced, reviewer
from aarlab.verify.settings import ReviewSettings

pytestmark = pytest.mark.gate

FILES = {"method.py": b"def fit(task, student, seed): ..."}
PRICE = "[3.0, 15.0]"


def judge(_conversation: Conversation) -> FakeReply:
    return FakeReply(text=json.dumps({"flag": False, "reason": "learns"}))


@pytest.fixture
def arena(tmp_path: Path) -> Iterator[Arena]:
    """One method that was re-run; nobody has reviewed it."""
    with open_arena(tmp_path) as made:
        made.hand_in("mo", "majority", MAJORITY)
        run, root = made.running.run, made.running.task.data
        assert verify(["--run", str(run.path), "--root", str(root.path)]) == 0
        yield made


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[Running]:
    """A platform on which nothing has happened."""
    with platform(write_task(tmp_path / "data"), RunDir(tmp_path / "run")) as made:
        yield made


@pytest.fixture
def fake() -> Iterator[FakeModels]:
    with FakeModels(judge) as made:
        yield made


def begin(arena: Arena, fake: FakeModels, *options: str) -> subprocess.Popen[bytes]:
    run, root = arena.running.run, arena.running.task.data
    words = ["--run", str(run.path), "--root", str(root.path), *options]
    told = {"URL": fake.openai_url, "KEY": fake.key, "MODEL": "judge", "PRICE": PRICE}
    variables = {**os.environ, **{f"AARLAB_REVIEW_{k}": v for k, v in told.items()}}
    with (run.path / "verifier.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aarlab.verify", *words], stdout=log, stderr=log, env=variables
        )


def spent(running: Running) -> OperatorSpend:
    with running.operator() as operator:
        (found,) = operator.operator_spend()
    return found


def reviews(arena: Arena) -> list[Audit]:
    with arena.running.operator() as operator:
        return [audit for audit in operator.audits() if audit.kind == "review"]


def test_a_review_is_paid_once_and_shown_beside_the_aars(arena: Arena, fake: FakeModels) -> None:
    for _ in range(2):
        assert begin(arena, fake).wait(60) == 0
    (audit,) = reviews(arena)
    found = spent(arena.running)
    assert audit.severity == "clear" and audit.facts["input_tokens"] > 100
    assert (found.calls, found.open, found.model) == (1, 0, "openai/judge")
    assert found.cache_read_tokens > 0 and found.dollars > 0
    figures = found.input_tokens + found.cache_read_tokens, found.output_tokens
    assert figures == (audit.facts["input_tokens"], audit.facts["output_tokens"])
    assert found.dollars == pytest.approx((3 * figures[0] + 15 * figures[1]) / 1e6)
    assert fake.counts().n_paid == 1
    with arena.running.operator() as operator:
        status, export = status_of(arena.running.run, operator, running=False), operator.export()
    assert status.operator_spend == export.operator_spend == [found] and status.dollars == 0
    assert "operator: model review" in render_page(campaign_view(export))
    verify_log(arena.running.place)


def test_a_call_cut_off_by_kill_9_is_booked_before_it_is_made_again(
    arena: Arena, fake: FakeModels
) -> None:
    fake.replan([Fault("slow", at=(1,), wait_s=60)])
    first = begin(arena, fake)
    wait_for(lambda: fake.counts().requests == 1, 60)
    first.send_signal(signal.SIGKILL)
    first.wait()
    held = spent(arena.running)
    assert (held.calls, held.open) == (1, 1) and held.dollars > 0 and reviews(arena) == []
    fake.replan([])
    assert begin(arena, fake).wait(60) == 0
    found = spent(arena.running)
    assert (found.calls, found.open) == (2, 0) and len(reviews(arena)) == 1
    assert found.dollars > held.dollars, "the lost one at its worst, and the second one"
    with arena.running.operator() as operator:
        logged = [e.body["call"] for e in operator.log() if e.kind == "operator_call"]
    assert len(set(logged)) == len(logged) == 2
    verify_log(arena.running.place)


class Killed(BaseException):
    """The process dies here."""


class DiesBeforeBooking(OperatorClient):
    def book_call(self, call: OperatorCall, key: str | None = None) -> OperatorCall:
        raise Killed


def test_an_answer_that_was_kept_is_booked_and_used_not_asked_for_again(
    bare: Running, fake: FakeModels
) -> None:
    settings = ReviewSettings(url=fake.openai_url, key=fake.key, model="judge", price=(3, 15))
    with DiesBeforeBooking(bare.address, bare.operator_token) as client:
        dying = reviewer(bare.run, client, settings, None)
        assert isinstance(dying, Reviewer)
        with pytest.raises(Killed):
            dying("f" * 40, FILES)
    worst = spent(bare)
    with bare.operator() as operator:
        again = reviewer(bare.run, operator, settings, None)
        assert isinstance(again, Reviewer)
        again.settle()
        assert again("f" * 40, FILES)[:3] == (False, "learns", False)
    found = spent(bare)
    assert (found.calls, found.open, fake.counts().n_paid) == (1, 0, 1)
    assert found.dollars < worst.dollars, "what it did cost, not the most it could"


def test_at_the_cap_code_is_not_reviewed_and_the_finding_says_so(
    arena: Arena, fake: FakeModels
) -> None:
    assert begin(arena, fake, "--review-dollars", "0.0001").wait(60) == 0
    (audit,) = reviews(arena)
    assert audit.severity == "note" and audit.summary.startswith("not reviewed: budget: ")
    with arena.running.operator() as operator:
        assert operator.operator_spend() == []
    assert fake.counts().requests == 0
    # The same again adds nothing; with a higher cap the code is reviewed after all, once.
    assert begin(arena, fake, "--review-dollars", "0.0001").wait(60) == 0
    assert reviews(arena) == [audit]
    for _ in range(2):
        assert begin(arena, fake, "--review-dollars", "1").wait(60) == 0
    earlier, found = reviews(arena)
    assert earlier == audit and (found.severity, found.summary) == ("clear", "learns")
    assert fake.counts().n_paid == 1


def test_without_a_price_no_call_is_made(bare: Running, fake: FakeModels) -> None:
    settings = ReviewSettings(url=fake.openai_url, key=fake.key, model="judge-nobody-lists")
    with bare.operator() as operator:
        assert isinstance(reviewer(bare.run, operator, settings, None), Unpriced)
        own = {"judge": {"model": "judge", "dated": "2026-01-31", "input": 1.0, "output": 2.0}}
        bare.run.spec.write_text(json.dumps({"campaign": {"prices": own}}))
        listed = settings.model_copy(update={"model": "judge"})
        made = reviewer(bare.run, operator, listed, None)
    assert isinstance(made, Reviewer) and made.books.price.dated == "2026-01-31"


def test_what_a_provider_refuses_is_free_and_what_it_never_answers_is_not(
    bare: Running, fake: FakeModels
) -> None:
    settings = ReviewSettings(url=fake.openai_url, key=fake.key, model="judge", price=(3, 15))
    with bare.operator() as operator:
        fake.replan([Fault("overloaded", at=(1,)), Fault("slow", at=(2,), wait_s=30)])
        ask = reviewer(bare.run, operator, settings, None)
        assert isinstance(ask, Reviewer) and ask("a" * 40, FILES).failed
        assert spent(bare).dollars == 0
        quick = settings.model_copy(update={"timeout_s": 0.3})
        ask = reviewer(bare.run, operator, quick, None)
        assert isinstance(ask, Reviewer) and ask("b" * 40, FILES).failed
    assert spent(bare).dollars > 0 and spent(bare).open == 0
