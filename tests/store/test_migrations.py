"""Migrations and tables agree; new and foreign databases are recognised."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgres import Postgres
from sqlalchemy import Connection, inspect, text

from aarlab.core.errors import Conflict
from aarlab.store import log
from aarlab.store.database import Database
from aarlab.store.place import Place, writing_engine
from aarlab.store.tables import metadata


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": True, "compare_server_default": True}
    )
    return list(compare_metadata(context, metadata))


async def _differences_of(database: Database) -> list[object]:
    async with database.read() as tx:
        return await tx.run_sync(_differences)


async def test_migrations_and_tables_agree(database: Database) -> None:
    assert await _differences_of(database) == []
    async with database.write() as tx:
        await tx.execute(text("DROP TABLE claims"))
        await tx.execute(text("ALTER TABLE spend ADD COLUMN more INTEGER"))
    assert len(await _differences_of(database)) == 2


async def test_opening_again_changes_nothing(database: Database, place: Place) -> None:
    async with database.write() as tx:
        await log.append(tx, "note", {})
    await database.close()
    await database.open()
    async with database.read() as tx:
        assert (await log.head(tx)).seq == 1
        assert await tx.scalar(text("SELECT version_num FROM alembic_version")) == "0001"


async def test_a_database_with_some_of_the_tables_is_refused_unchanged(place: Place) -> None:
    engine = writing_engine(place)
    async with engine.begin() as tx:
        await tx.run_sync(metadata.create_all, [metadata.tables["aars"]])
    await engine.dispose()
    with pytest.raises(Conflict, match=r"tables with names of aarlab \(aars\) and no version"):
        await Database(place).open()
    engine = writing_engine(place)
    async with engine.connect() as tx:
        assert await tx.run_sync(lambda c: inspect(c).get_table_names()) == ["aars"]
    await engine.dispose()


async def test_a_database_with_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    database = Database(path)
    await database.open()
    await database.close()
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE spend RENAME COLUMN note TO remark")
    connection.close()
    with pytest.raises(Conflict, match="spend has no column note"):
        await Database(path).open()


async def test_a_newer_database_is_refused(database: Database, place: Place) -> None:
    async with database.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(Conflict, match="'9999', which this aarlab does not know"):
        await Database(place).open()


async def test_other_tables_of_a_postgresql_database_are_left_alone(postgres: Postgres) -> None:
    place = postgres.fresh()
    postgres.sql(postgres.name(place), "CREATE TABLE theirs (x INTEGER)")
    database = Database(place)
    await database.open()
    await database.close()
    assert postgres.sql(postgres.name(place), "SELECT count(*) FROM theirs") == "0"
