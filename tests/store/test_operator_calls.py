"""The operator's own model calls: held, booked once, never past their cap, as the log has them."""

import pytest
from sqlalchemy import text

from aarlab.core.errors import BudgetExhausted, Conflict, Damaged
from aarlab.core.wire_ledger import OperatorCall, OperatorReservation
from aarlab.store import ledger, log
from aarlab.store.database import Database
from aarlab.store.place import Place


def call_of(name: str, dollars: float, purpose: str = "review", **tokens: int) -> OperatorCall:
    return OperatorCall(purpose=purpose, call=name, model="x/y", dollars=dollars, **tokens)


def held(call: OperatorCall, cap: float | None) -> OperatorReservation:
    return OperatorReservation(**call.model_dump(), cap_dollars=cap)


async def reserve(database: Database, call: OperatorCall, cap: float | None) -> None:
    async with database.write() as tx:
        await ledger.reserve_operator_call(tx, held(call, cap))


async def book(database: Database, call: OperatorCall) -> bool:
    async with database.write() as tx:
        if not await ledger.book_operator_call(tx, call):
            return False
        await log.append(tx, "operator_call", call.model_dump(mode="json"))
        return True


async def test_what_is_held_counts_until_it_is_booked(database: Database) -> None:
    await reserve(database, call_of("r1", 3.0, input_tokens=900), 5.0)
    with pytest.raises(BudgetExhausted, match=r"2 of 5 dollars are left.*may take 3"):
        await reserve(database, call_of("r2", 3.0), 5.0)
    await reserve(database, call_of("c1", 3.0, "classify"), 5.0)  # has a cap of its own
    with pytest.raises(Conflict, match="another id"):
        await reserve(database, call_of("r1", 0.1), 5.0)
    assert await book(database, call_of("r1", 1.0, input_tokens=300))
    assert not await book(database, call_of("r1", 1.0, input_tokens=300)), "booked once"
    with pytest.raises(Conflict, match="other figures"):
        await book(database, call_of("r1", 1.1, input_tokens=300))
    await reserve(database, call_of("r2", 3.0), 5.0)
    assert await book(database, call_of("r3", 9.0)), "a fact, also past the cap"
    with pytest.raises(BudgetExhausted, match="0 of 5 dollars"):
        await reserve(database, call_of("r4", 0.01), 5.0)
    async with database.read() as tx:
        assert [c.call for c in await ledger.unbooked_operator_calls(tx, "review")] == ["r2"]
        classify, review = await ledger.operator_spend(tx)
        assert await ledger.spent(tx) == {}, "no AAR's"
    assert (review.calls, review.open, review.dollars, review.input_tokens) == (3, 1, 13.0, 300)
    assert (classify.purpose, classify.calls, classify.open) == ("classify", 1, 1)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("UPDATE operator_calls SET dollars = 0", "operator_call r1 is not as the log has it"),
        ("DELETE FROM operator_calls", "r1 is in the log but not in its table"),
        ("UPDATE operator_calls SET booked = '0'", "r1 is in the log but not in its table"),
    ],
)
async def test_changed_books_are_not_as_the_log_has_them(
    database: Database, place: Place, change: str, said: str
) -> None:
    await reserve(database, call_of("r1", 3.0), None)
    await log.check_log(place)
    await book(database, call_of("r1", 1.0))
    await log.check_log(place)
    async with database.write() as tx:
        await tx.execute(text(change))
    with pytest.raises(Damaged, match=said):
        await log.check_log(place)
