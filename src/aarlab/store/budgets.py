"""The campaign's own budget: one row, set when the campaign starts, changed by `extend`."""

from sqlalchemy import delete, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.wire_ledger import CampaignBudget
from aarlab.store.tables import budget

ROW = 1
_BUDGET = select(budget.c.record).where(budget.c.id == ROW)


async def get(tx: AsyncConnection) -> CampaignBudget:
    record = await tx.scalar(_BUDGET)
    return CampaignBudget() if record is None else CampaignBudget.model_validate(record)


async def put(tx: AsyncConnection, new: CampaignBudget) -> None:
    await tx.execute(delete(budget))
    await tx.execute(insert(budget).values(id=ROW, record=new.model_dump(mode="json")))
