"""A campaign's figures, read directly from its database without a server, a lock or any write.

Reading works both while the campaign runs and afterwards. Raises Outdated for a database of another
version, which a server migrates when it opens it.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from aarlab.core.errors import AarlabError, Damaged, NotFound, Unavailable
from aarlab.core.layout import RunDir
from aarlab.core.wire import AarRecord, Verification
from aarlab.core.wire_ledger import CampaignBudget, Control, OperatorSpend
from aarlab.core.wire_verifiers import Lease
from aarlab.store import aars, controls, leases, ledger, verifications
from aarlab.store.place import is_damaged, read_options, reading_engine, reason
from aarlab.store.settings import StoreSettings


class Outdated(AarlabError):
    """Error for a database that cannot be read as it is; a server of this version can open it."""

    code = "outdated"


@dataclass(frozen=True, slots=True)
class StoredFigures:
    """The figures that `status_of` gets from the operator's client, read at one moment."""

    _budget: CampaignBudget
    _aars: list[AarRecord]
    _controls: list[Control]
    _spend: list[OperatorSpend]
    _queued: list[Verification]
    _leases: list[Lease]

    def budget(self) -> CampaignBudget:
        return self._budget

    def aars(self) -> list[AarRecord]:
        return self._aars

    def controls(self) -> list[Control]:
        return self._controls

    def operator_spend(self) -> list[OperatorSpend]:
        return self._spend

    def verifications(self, state: str) -> list[Verification]:
        return [one for one in self._queued if one.state == state]

    def leases(self) -> list[Lease]:
        return self._leases


def stored_figures(run: RunDir) -> StoredFigures:
    """Read a campaign's figures from its database.

    Raises NotFound if no server has created a database yet, Unavailable if a remote database does
    not answer, Damaged for a file that is not whole, and Outdated if the database is of another
    version.
    """
    place = StoreSettings().place(run)
    if isinstance(place, Path) and not place.is_file():
        raise NotFound(f"{run.path} has no database yet: its campaign has not begun")

    async def read() -> StoredFigures:
        engine = reading_engine(place)
        try:
            async with engine.connect() as plain:
                connection = await plain.execution_options(**read_options(place))
                async with connection.begin():
                    return StoredFigures(
                        await ledger.budget_of_campaign(connection),
                        await aars.records(connection),
                        await controls.listed(connection),
                        await ledger.operator_spend(connection),
                        await verifications.in_state(connection, "queued"),
                        await leases.running(connection, await leases.clock(connection)),
                    )
        finally:
            await engine.dispose()

    try:
        return asyncio.run(read())
    except SQLAlchemyError as error:
        if is_damaged(error):
            raise Damaged(
                f"{place} is damaged ({reason(error)}): restore it from a copy. What was exported "
                f"can be read: aarlab report {run.path}"
            ) from error
        raise Outdated(f"the database of {run.path} cannot be read as it is") from error
    except OSError as error:
        raise Unavailable("the database does not answer: try again") from error
