"""Bring a database to the tables of this version, inside the caller's write transaction."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

from aarlab.core.errors import Conflict
from aarlab.store.tables import metadata

SCRIPTS = Path(__file__).parent / "migrations"
FIRST = "0001"
LATER_TABLES = frozenset(
    [
        *("claims", "audits", "verdicts", "tokens", "votes", "changes", "terms", "trees"),
        *("method_submissions", "spend_totals", "model_calls", "reservations", "controls"),
        *("teams", "budget", "remarks", "paces", "operator_calls", "case_verdicts"),
        "supervised",
    ]
)
FIRST_TABLES = frozenset(metadata.tables) - LATER_TABLES


def migrate(connection: Connection) -> None:
    """Run what is missing. A database from before migrations is stamped as the first version.

    Raises Conflict on a database of a newer version or of something else; nothing is changed then.
    """
    config = Config()
    config.set_main_option("script_location", str(SCRIPTS).replace("%", "%%"))
    config.attributes["connection"] = connection
    version = MigrationContext.configure(connection).get_current_revision()
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    if version is not None and version not in known:
        raise Conflict(
            f"the database is of version {version!r}, newer than this aarlab knows: upgrade aarlab"
        )
    if version is None and _made_before_migrations(connection):
        command.stamp(config, FIRST)
    command.upgrade(config, "head")
    _check_columns(connection)


def _made_before_migrations(connection: Connection) -> bool:
    ours = FIRST_TABLES & set(inspect(connection).get_table_names())
    if ours and ours != FIRST_TABLES:
        missing = ", ".join(sorted(FIRST_TABLES - ours))
        raise Conflict(f"the database has some tables of aarlab but not {missing}: use another one")
    return bool(ours)


def _check_columns(connection: Connection) -> None:
    found = inspect(connection)
    for name, table in metadata.tables.items():
        missing = set(table.c.keys()) - {column["name"] for column in found.get_columns(name)}
        if missing:
            raise Conflict(
                f"table {name} has no column {', '.join(sorted(missing))}: the database is not "
                "one of this aarlab; use another one"
            )
