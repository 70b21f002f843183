"""Nothing that an AAR can reach hangs on a figure of a hidden split: no digit, rank, order or flag.

Two worlds with the same actions and other hidden figures must look the same with an AAR's token.
And the attack that once worked, flipping hash buckets by reading feedback, finds nothing to climb.
"""

import json
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hidden_feedback import (
    FAILED,
    FLAGGED,
    ONE,
    OTHER,
    UNASKED,
    UNVERIFIED,
    World,
    as_guest,
    make_world,
    negatives,
    over_http,
    over_mcp,
)
from http_kit import snapshot_of
from platform_kit import Running, TinyTask, platform

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BudgetExhausted
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewVerdict, NewVerification, Run, VerificationResult
from aarlab.core.wire_ledger import DEFAULT_METHODS
from aarlab.core.wire_service import NewMethod


@pytest.fixture(scope="module")
def worlds(tiny: TinyTask, tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("worlds")
    with (
        platform(tiny, RunDir(folder / "one"), "--task", "tiny") as one,
        platform(tiny, RunDir(folder / "other"), "--task", "tiny") as other,
    ):
        yield make_world(one, ONE), make_world(other, OTHER)


def test_the_operator_sees_what_is_looked_for(worlds: tuple[World, World]) -> None:
    found = []
    for world in worlds:
        with world.running.operator() as operator:
            lines = operator.export().leaderboard
            scores = [line for record in operator.method_requests() for line in record.scores]
        assert all(line.pgr < 0 for line in lines) and len(lines) == len(ONE)
        unasked = world.snapshots[UNASKED]
        asked = [line for line in lines if line.snapshot != unasked]
        of = lambda line: (line.snapshot, line.task)  # noqa: E731
        assert sorted(scores, key=of) == sorted(asked, key=of)
        assert negatives(str(lines[0].model_dump_json()).replace(":", ": "))
        found.append({world.snapshots.index(line.snapshot): line.pgr for line in lines})
    assert found[0] != found[1] and sorted(found[0].values()) == sorted(found[1].values())


def test_every_route_answers_the_same_whatever_the_figures_are(
    worlds: tuple[World, World],
) -> None:
    one, other = ({name: w.plain(text) for name, text in over_http(w)} for w in worlds)
    assert one == other
    for path in ("GET /v1/verified", "GET /v1/methods"):
        assert "flagged" in one[path] and "SNAPSHOT-3" in one[path]
    for name, text in one.items():
        assert negatives(text.replace(":", ": ")) == [], name
        _in_the_order_of_freezing(name, text)


async def test_every_tool_answers_the_same_whatever_the_figures_are(
    worlds: tuple[World, World],
) -> None:
    one, other = [{name: w.plain(text) for name, text in await over_mcp(w)} for w in worlds]
    assert one == other
    assert "SNAPSHOT-3" in one["verified_methods"] and "SNAPSHOT-3" in one["verification_status"]
    for name, text in one.items():
        assert negatives(text) == [], name
        _in_the_order_of_freezing(name, text)


def _in_the_order_of_freezing(name: str, text: str) -> None:
    order = list(dict.fromkeys(re.findall(r"SNAPSHOT-\d", text)))
    assert order == sorted(order) or order == sorted(order, reverse=True), name


def test_a_share_link_shows_figures_at_the_end_only(worlds: tuple[World, World]) -> None:
    for world in worlds:
        for page, text in as_guest(world):
            assert negatives(text) == [], page
        run = world.running.run
        at = "2026-01-01T00:00:00+00:00"
        events = [{"at": at, "kind": "campaign_started"}]
        for ending, shown in (("interrupted", False), ("crashed", False), ("finished", True)):
            events.append({"at": at, "kind": "campaign_ended", "ending": ending})
            run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
            pages = dict(as_guest(world))
            assert any(negatives(text) for text in pages.values()) is shown, ending
        run.events.unlink()


def test_an_aar_learns_states(worlds: tuple[World, World]) -> None:
    for world in worlds:
        with world.running.aar("newcomer") as aar:
            seen = aar.verified_methods()
        states = {world.snapshots.index(one.snapshot): one.state for one in seen}
        expected = {number: "verified" for number in range(len(ONE)) if number != UNASKED}
        assert states == expected | {FLAGGED: "flagged", FAILED: "failed"}
        assert not {UNVERIFIED, UNASKED} & states.keys(), "the policy chooses by exact scores"
        assert [one.short for one in seen] == [f"ann-{n + 1}" for n in sorted(states)]


def test_a_verdict_overrules_a_flag(tiny: TinyTask, tmp_path: Path) -> None:
    with platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny") as running:
        world = make_world(running, ONE)
        with running.operator() as operator, running.aar("reader") as reader:
            given = {"snapshot": world.snapshots[FLAGGED], "by": "ann", "reason": "looked"}
            operator.give_verdict(NewVerdict(decision="accepted", **given))
            states = {one.snapshot: one.state for one in reader.verified_methods()}
            assert states[world.snapshots[FLAGGED]] == "verified"
            operator.give_verdict(NewVerdict(decision="disqualified", **given))
            assert world.snapshots[FLAGGED] not in {m.snapshot for m in reader.verified_methods()}
            about = world.snapshots[FLAGGED]
            (asked,) = [r for r in operator.method_requests() if r.snapshot == about]
            assert asked.state == "refused"


# ---------------------------------------------------------------- climbing
BUCKETS = 24
Heard = Callable[[str], object]


class Climber:
    """Flips one hash bucket of its answers a request; keeps what the feedback says is better."""

    def __init__(self, running: Running, aar: PlatformClient) -> None:
        self.running, self.flips, self.aar = running, set[int](), aar
        rng = random.Random(4)
        self.base = [rng.random() for _ in running.task.ids("selection")]

    def accuracy(self, flips: set[int]) -> float:
        labels = list(self.running.task.labels["selection"].values())
        answers = [p > 0.5 for p in self.probs(flips)]
        return sum(a == bool(t) for a, t in zip(answers, labels, strict=True)) / len(labels)

    def probs(self, flips: set[int]) -> list[float]:
        return [1 - p if row % BUCKETS in flips else p for row, p in enumerate(self.base)]

    def verified(self, flips: set[int]) -> str:
        """Freeze, request, and what the platform's verifier then does with the code."""
        code = self.aar.put_snapshot(snapshot_of({"method.py": f"flips = {sorted(flips)}"})).id
        self.aar.request_verification(NewMethod(snapshot=code))
        with self.running.operator() as operator:
            wanted = NewVerification(snapshot=code, task="tiny", n_seeds=1)
            queued = operator.request_verification(wanted)
            runs = [Run(seed=queued.run_seeds[0], probs=self.probs(flips))]
            ids = self.running.task.ids("selection")
            operator.settle(queued.id, VerificationResult(ids=ids, runs=runs))
        return code

    def climb(self, heard: Heard) -> list[object]:
        """Return all that was heard; `flips` are those kept in the end."""
        told = [heard(self.verified(self.flips))]
        best = told[0]
        for bucket in range(BUCKETS):
            trial = self.flips | {bucket}
            told.append(heard(self.verified(trial)))
            if told[-1] > best:  # type: ignore[operator]
                self.flips, best = trial, told[-1]
        return told

    def everything(self, code: str) -> object:
        """Whatever the API tells of a method but its own name, times and number in the list."""
        mine = [one for one in self.aar.method_requests() if one.snapshot == code]
        listed = [one for one in self.aar.verified_methods() if one.snapshot == code]
        dumped = [m.model_dump(exclude={"id", "snapshot", "at", "short"}) for m in mine + listed]
        assert len(dumped) == 2
        return json.dumps([*dumped, self.aar.me().exhausted], sort_keys=True)


def test_flipping_hash_buckets_finds_nothing_to_climb(tiny: TinyTask, tmp_path: Path) -> None:
    with (
        platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny") as running,
        running.operator() as operator,
        running.aar("sighted", methods=BUCKETS + 1) as one,
        running.aar("blind", methods=BUCKETS + 1) as other,
    ):
        sighted, blind = Climber(running, one), Climber(running, other)

        def scored(code: str) -> object:
            requests = operator.method_requests()
            return next(r.scores[0].pgr for r in requests if r.snapshot == code)

        sighted.climb(scored)
        gained = sighted.accuracy(sighted.flips) - sighted.accuracy(set())
        assert gained / 0.3 > 0.25, "with figures the attack works: its kind is what is tested"

        told = blind.climb(blind.everything)
        assert len(told) == BUCKETS + 1 and len(set(told)) == 1
        assert blind.flips == set()


def test_requests_end_by_default(tiny: TinyTask, tmp_path: Path) -> None:
    with (
        platform(tiny, RunDir(tmp_path / "run"), "--task", "tiny") as running,
        running.aar("climber") as aar,
    ):
        climber = Climber(running, aar)
        assert aar.me().limits.methods == DEFAULT_METHODS
        with pytest.raises(BudgetExhausted, match=f"{DEFAULT_METHODS} of {DEFAULT_METHODS}"):
            climber.climb(climber.everything)
        assert aar.me().methods_made == DEFAULT_METHODS
