"""What a person asks of an AAR: pause, resume, stop, a message, more budget."""

from sqlalchemy.ext.asyncio import AsyncConnection


async def wanted_now(tx: AsyncConnection) -> dict[str, str]:
    return {}
