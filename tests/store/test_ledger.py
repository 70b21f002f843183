"""The ledger: totals right to the token, caps that hold under any interleaving and crash."""

import asyncio
import contextlib
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from sqlalchemy import func, select, text, update

from aarlab.core.errors import BadInput, BudgetExhausted, Conflict, Damaged, TooManyRequests
from aarlab.core.ledger import TOKEN_KINDS, dollars_of, dollars_per_hour, tokens_of
from aarlab.core.wire import Limits, NewAar, Spend
from aarlab.core.wire_ledger import (
    CampaignBudget,
    CampaignLimits,
    ModelCall,
    NewControl,
    NewReservation,
)
from aarlab.store import aars, controls, ledger, log, standing
from aarlab.store import ledger as store_ledger
from aarlab.store.database import Database
from aarlab.store.place import Place
from aarlab.store.tables import aars as aars_table
from aarlab.store.tables import model_calls, reservations, spend_totals

NAMES = [f"a{i}" for i in range(9)]
CAP = 1000


async def join(database: Database, names=NAMES, limits=None, campaign=None, rate=0.0) -> None:
    async with database.write() as tx:
        if campaign is not None:
            budget = CampaignBudget(limits=campaign, device_dollars_per_hour=rate)
            await store_ledger.put_budget(tx, budget)
        for name in names:
            new = NewAar(name=name, researcher="language", direction="", limits=limits or Limits())
            await aars.add(tx, new, f"sha-{name}")


async def reserve(database: Database, aar: str, call: str, tokens: int, **given) -> None:
    async with database.write() as tx:
        new = NewReservation(call=call, tokens=tokens, dollars=tokens / 100, **given)
        await standing.reserve(tx, aar, new)


def call_of(call: str, tokens: int) -> ModelCall:
    """`tokens` spread over the four kinds."""
    parts = [tokens // 4] * 3 + [tokens - 3 * (tokens // 4)]
    kinds = dict(zip(TOKEN_KINDS, parts, strict=True))
    return ModelCall(call=call, model="scripted/x", dollars=tokens / 100, seconds=1.0, **kinds)


async def record(database: Database, aar: str, call: str, tokens: int) -> bool:
    async with database.write() as tx:
        return await ledger.record_call(tx, aar, call_of(call, tokens))


async def total(database: Database, aar: str | None = None) -> float:
    async with database.read() as tx:
        return tokens_of(await ledger.spent(tx, aar))


async def test_a_call_counts_once_and_totals_are_sums_of_the_rows(database: Database) -> None:
    await join(database)
    for name, amount in (("a0", 101), ("a1", 7)):
        assert await record(database, name, "c1", amount)
        assert not await record(database, name, "c1", amount), "recorded once per id"
    with pytest.raises(Conflict, match="other figures"):
        await record(database, "a0", "c1", 102)
    async with database.write() as tx:
        await ledger.add_spend(tx, "a0", Spend(kind="device_s", amount=30))
        await ledger.add_spend(tx, "a0", Spend(kind="output_tokens", amount=5))
    assert (await total(database, "a0"), await total(database)) == (106, 113)
    async with database.read() as tx:
        spent = await ledger.spent(tx, "a0")
        assert spent["device_s"] == 30 and spent["dollars"] == pytest.approx(1.01)
        (row, other) = await ledger.model_spend(tx)
        assert (row.aar, row.model, row.calls, row.seconds) == ("a0", "scripted/x", 1, 1.0)
        assert tokens_of(row.model_dump()) == 101 and tokens_of(other.model_dump()) == 7
        sums = [await tx.scalar(select(func.sum(model_calls.c[kind]))) for kind in TOKEN_KINDS]
        assert sum(sums) == 108
        assert await tx.scalar(select(func.count()).select_from(spend_totals)) < 12


async def test_a_reservation_is_replaced_released_and_runs_out(database: Database) -> None:
    await join(database, ["a0", "a1"], campaign=CampaignLimits(tokens=CAP))
    await reserve(database, "a0", "c1", 900)
    with pytest.raises(TooManyRequests, match="under way"):
        await reserve(database, "a1", "c1", 200)
    await reserve(database, "a0", "c2", 500)  # what a killed AAR held is replaced by its next
    await reserve(database, "a1", "c1", 200)
    await record(database, "a0", "c2", 300)
    await reserve(database, "a1", "c2", 700)  # and released by the record
    async with database.write() as tx:
        past = {"expires_at": "2000-01-01T00:00:00.000000+00:00"}
        await tx.execute(update(reservations).values(past))
    await reserve(database, "a0", "c3", 700)
    with pytest.raises(BudgetExhausted, match="700 of 1000 tokens left"):
        await reserve(database, "a1", "c4", 701)
    async with database.write() as tx:
        await aars.open_session(tx, "a0")  # a new life holds nothing of the old one
    await reserve(database, "a1", "c4", 700)


async def test_calls_in_parallel_are_held_beside_each_other(database: Database) -> None:
    await join(database, ["a0"], limits=Limits(tokens=CAP))
    await reserve(database, "a0", "c1", 600, beside=True)
    await reserve(database, "a0", "c1", 700, beside=True)  # the same call, asked again
    with pytest.raises(TooManyRequests):
        await reserve(database, "a0", "c2", 400, beside=True)
    await reserve(database, "a0", "c2", 300, beside=True)


async def test_device_seconds_count_in_dollars_at_their_rate(database: Database) -> None:
    await join(database, ["a0"], Limits(dollars=10), CampaignLimits(dollars=100), rate=3.0)
    async with database.write() as tx:
        await ledger.add_spend(tx, "a0", Spend(kind="device_s", amount=2 * 3600))
    async with database.read() as tx:
        me = standing.me(await standing.standing(tx, "a0"))
    assert me.left.dollars == 4 and me.campaign_left is not None
    assert me.campaign_left.dollars == 94 and me.exhausted == ""
    with pytest.raises(BudgetExhausted, match="4 of 10 dollars left"):
        await reserve(database, "a0", "c1", 401)
    assert dollars_of({"device_s": 1800.0, "dollars": 1.0}, 3.0) == 2.5
    assert dollars_per_hour(2.5, 1800) == 5.0 and dollars_per_hour(1, 0) is None


STEPS = st.lists(
    st.tuples(
        st.sampled_from(["call", "call", "call", "record", "crash", "silent crash"]),
        st.integers(0, 8),
        st.integers(100, 400),
        st.sampled_from([0.5, 1.0]),
    ),
    min_size=30,
    max_size=60,
)


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=STEPS, own=st.sampled_from([None, 250, 700]))
def test_no_interleaving_passes_a_cap(steps: list, own: int | None) -> None:
    """Nine AARs reserve, record, die and come back; unrecorded calls of the dead are lost to us,
    and never let a recorded total past the cap."""

    async def play() -> None:
        with TemporaryDirectory() as folder:
            database = Database(Path(folder) / "platform.db")
            await database.open()
            await join(database, NAMES, Limits(tokens=own), CampaignLimits(tokens=CAP))
            await _play(database, steps, own)
            await database.close()

    asyncio.run(play())


async def _play(database: Database, steps: list, own: int | None) -> None:
    flying: dict[str, tuple[str, int]] = {}
    counted = dict.fromkeys(NAMES, 0)
    for number, (what, who, worst, share) in enumerate(steps):
        name = NAMES[who]
        if what == "call" and name not in flying:
            with contextlib.suppress(BudgetExhausted, TooManyRequests):
                await reserve(database, name, f"c{number}", worst)
                flying[name] = (f"c{number}", max(1, int(worst * share)))
        elif what == "record" and name in flying:
            call, tokens = flying.pop(name)
            assert await record(database, name, call, tokens)
            counted[name] += tokens
        elif "crash" in what and name in flying:
            call, tokens = flying.pop(name)
            if what == "crash":  # it finds the answer on disk when it is back, and records it
                assert await record(database, name, call, tokens)
                assert not await record(database, name, call, tokens)
                counted[name] += tokens
            async with database.write() as tx:
                await aars.open_session(tx, name)
        assert await total(database) == sum(counted.values()) <= CAP
        assert own is None or max(counted.values()) <= own
    for name in NAMES:
        assert await total(database, name) == counted[name]


async def test_nine_at_once_do_not_pass_the_cap_together(database: Database) -> None:
    """Truly concurrent: each goes on until its budget ends; nothing is left over unused."""
    await join(database, NAMES, campaign=CampaignLimits(tokens=CAP))

    async def live(name: str) -> int:
        made = 0
        while True:
            try:
                await reserve(database, name, f"c{made}", 60)
            except TooManyRequests:
                await asyncio.sleep(0.001)
                continue
            except BudgetExhausted:
                return made
            await asyncio.sleep(0)
            await record(database, name, f"c{made}", 40)
            made += 1

    made = await asyncio.gather(*map(live, NAMES))
    assert await total(database) == 40 * sum(made)
    assert CAP - 60 < await total(database) <= CAP


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE spend_totals SET amount = 1 WHERE kind = 'output_tokens'", "spend_totals"),
        ("UPDATE model_calls SET dollars = 0", "model_calls: dollars of a0"),
        ("DELETE FROM model_calls", "model_calls"),
        ("UPDATE controls SET action = 'resume'", "control 1"),
        ("DELETE FROM controls", "control 1"),
    ],
)
async def test_a_changed_ledger_is_not_as_the_log_has_it(
    database: Database, place: Place, change: str, said: str
) -> None:
    await join(database, ["a0"])
    async with database.write() as tx:
        call = call_of("c1", 100)
        await ledger.record_call(tx, "a0", call)
        await log.append(tx, "model_call", {"aar": "a0", **call.model_dump(mode="json")})
        await ledger.add_spend(tx, "a0", Spend(kind="device_s", amount=0.1))
        await log.append(tx, "spend", {"aar": "a0", "kind": "device_s", "amount": 0.1})
        await controls.add(tx, "a0", NewControl(action="pause", by="Ada"))
    await log.check_log(place)
    async with database.write() as tx:
        await tx.execute(text(change))
    with pytest.raises(Damaged, match=said):
        await log.check_log(place)


async def test_extending_adds_and_the_older_form_replaces(database: Database, place: Place) -> None:
    await join(database, ["a0"])
    async with database.write() as tx:
        await store_ledger.put_budget(
            tx, CampaignBudget(limits=CampaignLimits(hours=10, dollars=5))
        )
        older = NewControl(action="extend", limits=Limits(hours=2, submissions=4), by="Ada")
        await controls.add(tx, "a0", older)
        for _ in range(2):
            asked = NewControl(action="extend", add=Limits(hours=0.5, submissions=1), by="Ada")
            await controls.add(tx, "a0", asked)
        more = NewControl(action="extend", add=Limits(dollars=1.5), by="Ada")
        await controls.add(tx, None, more)
        with pytest.raises(BadInput, match="no limit of tokens to extend"):
            more = NewControl(action="extend", add=Limits(tokens=1), by="Ada")
            await controls.add(tx, None, more)
        with pytest.raises(BadInput, match="no limit can be above"):
            huge = NewControl(action="extend", add=Limits(hours=1e12), by="Ada")
            await controls.add(tx, "a0", huge)
    async with database.read() as tx:
        record = await tx.scalar(select(aars_table.c.record).where(aars_table.c.name == "a0"))
        limits = (await store_ledger.budget_of_campaign(tx)).limits
    assert (record["limits"]["hours"], record["limits"]["submissions"]) == (3.0, 6)
    assert (limits.hours, limits.dollars) == (10, 6.5)
    await log.check_log(place)
    for both in ({"add": Limits(hours=1), "limits": Limits(hours=1)}, {}):
        with pytest.raises(ValidationError):
            NewControl(action="extend", by="Ada", **both)
