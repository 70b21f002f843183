"""A campaign's figures straight from its database: no server, no lock, nothing is written.

It works while the campaign runs (the database lets readers read) and after. Raises Outdated for a
database of another version, which a server brings up to date when it opens it.
"""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.exc import SQLAlchemyError

from aarlab.core.errors import AarlabError, NotFound, Unavailable
from aarlab.core.layout import RunDir
from aarlab.core.wire import AarRecord
from aarlab.core.wire_ledger import CampaignBudget, Control, OperatorSpend
from aarlab.store import aars, budgets, controls, operator_calls
from aarlab.store.place import read_options, reading_engine
from aarlab.store.settings import StoreSettings


class Outdated(AarlabError):
    """The database cannot be read as it is; a server of this version can open it."""

    code = "outdated"


@dataclass(frozen=True, slots=True)
class StoredFigures:
    """What `status_of` asks the operator's client for, as of one moment."""

    _budget: CampaignBudget
    _aars: list[AarRecord]
    _controls: list[Control]
    _spend: list[OperatorSpend]

    def budget(self) -> CampaignBudget:
        return self._budget

    def aars(self) -> list[AarRecord]:
        return self._aars

    def controls(self) -> list[Control]:
        return self._controls

    def operator_spend(self) -> list[OperatorSpend]:
        return self._spend


def stored_figures(run: RunDir) -> StoredFigures:
    """Raises NotFound where no server has made a database yet, Unavailable while a database
    elsewhere does not answer, Outdated for one of another version."""
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
                        await budgets.get(connection),
                        await aars.all_records(connection),
                        await controls.listed(connection),
                        await operator_calls.spend(connection),
                    )
        finally:
            await engine.dispose()

    try:
        return asyncio.run(read())
    except SQLAlchemyError as error:
        raise Outdated(f"the database of {run.path} cannot be read as it is") from error
    except OSError as error:
        raise Unavailable("the database does not answer: try again") from error
