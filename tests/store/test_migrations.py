"""Migrations and tables agree; old, new and foreign databases are recognised."""

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from postgres import Postgres
from sqlalchemy import Connection, MetaData, insert, select, text

from aarlab.core.errors import Conflict
from aarlab.core.wire_service import FindingQuery
from aarlab.store import forum, log, tokens
from aarlab.store.claims import claim
from aarlab.store.database import Database
from aarlab.store.migrate import FIRST_TABLES
from aarlab.store.place import Place, writing_engine
from aarlab.store.tables import aars, comments, findings, metadata


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
        assert await tx.scalar(text("SELECT version_num FROM alembic_version")) == "0010"


async def _first_release(place: Place, without: str = "claims") -> None:
    """A database as `metadata.create_all` of the first release made it, with a row in it."""
    old = MetaData()
    for table in metadata.tables.values():
        if table.name in FIRST_TABLES - {without}:
            table.to_metadata(old)
    engine = writing_engine(place)
    async with engine.begin() as tx:
        await tx.run_sync(old.create_all)
        if without == "claims":
            row = {"name": "a", "token_sha256": "t", "scope": "aar", "record": {}, "at": "now"}
            await tx.execute(insert(aars).values(row))
            post = {"kind": "insight", "title": "Overlap", "text": "density"}
            old_post = {"id": "fnd_1", "author": "a", "at": "now", "record": post}
            await tx.execute(insert(findings).values(old_post))
            said = {"id": "com_1", "finding": "fnd_1", "author": "a", "at": "now", "text": "why"}
            await tx.execute(insert(comments).values(said))
            await log.append(tx, "note", {"old": True})
    await engine.dispose()


async def test_a_database_from_before_migrations_is_taken_on(place: Place) -> None:
    await _first_release(place)
    database = Database(place)
    await database.open()
    assert await _differences_of(database) == []
    async with database.write() as tx:
        assert await tx.scalar(select(aars.c.name)) == "a"
        (first,) = await tokens.of_aar(tx, "a")
        assert first.scopes == ["read", "write"] and first.revoked_at is None
        found = await forum.page(tx, FindingQuery(q="overlap why", sort="changed"))
        assert [(one.id, one.changed) for one in found.findings] == [("fnd_1", 1)]
        await claim(tx, "x", "1")
        await log.append(tx, "note", {})
    await database.close()
    assert (await log.check_log(place)).seq == 2


async def test_a_database_with_half_of_the_tables_is_refused(place: Place) -> None:
    await _first_release(place, without="spend")
    with pytest.raises(Conflict, match="not spend"):
        await Database(place).open()


async def test_a_database_with_other_columns_is_refused_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "platform.db"
    await _first_release(path)
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE spend RENAME COLUMN note TO remark")
    connection.close()
    with pytest.raises(Conflict, match="spend has no column note"):
        await Database(path).open()
    connection = sqlite3.connect(path)
    names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master")}
    connection.close()
    assert not names & {"alembic_version", "claims"}, "a refused database was changed"


async def test_a_newer_database_is_refused(database: Database, place: Place) -> None:
    async with database.write() as tx:
        await tx.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    await database.close()
    with pytest.raises(Conflict, match="'9999', newer"):
        await Database(place).open()


async def test_other_tables_of_a_postgresql_database_are_left_alone(postgres: Postgres) -> None:
    place = postgres.fresh()
    postgres.sql(postgres.name(place), "CREATE TABLE theirs (x INTEGER)")
    database = Database(place)
    await database.open()
    await database.close()
    assert postgres.sql(postgres.name(place), "SELECT count(*) FROM theirs") == "0"
