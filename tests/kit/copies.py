"""Copies of a database, SQLite or PostgreSQL, edited by hand behind the platform's back."""

import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from postgres import Postgres

from aarlab.store.place import Place

# What a person with the database's password types; written for SQLite, as PostgreSQL has it.
DIALECT = (
    (r"json_set\(record, '\$\.([\w.]+)', ([\d.]+)\)", r"jsonb_set(record::jsonb, '{\1}', '\2')"),
    (r"(jsonb_set\(record::jsonb, '\{\w+)\.", r"\1,"),
)


class Copies:
    def __init__(self, original: Place, server: Postgres | None) -> None:
        self.original, self._server = original, server

    @contextmanager
    def edited(self, *statements: str) -> Iterator[Place]:
        """A copy with the edits, each of which must change a row; removed at the end."""
        if self._server is None:
            assert isinstance(self.original, Path)
            copy = self.original.with_name("copy.db")
            shutil.copy(self.original, copy)
            _edit(copy, statements)
            yield copy
            copy.unlink()
            return
        url = self._server.fresh(str(self.original))
        try:
            self._edit(url, statements)
            yield url
        finally:
            self._server.drop(url)

    def _edit(self, url: str, statements: tuple[str, ...]) -> None:
        assert self._server is not None
        for statement in statements:
            for sqlite, postgres in DIALECT:
                statement = re.sub(sqlite, postgres, statement)
            counted = f"WITH done AS ({statement} RETURNING 1) SELECT count(*) FROM done"
            no_keys = "SET session_replication_role = replica"  # a superuser stops at no constraint
            assert int(self._server.sql(self._server.name(url), no_keys, counted)) > 0


def _edit(path: Path, statements: tuple[str, ...]) -> None:
    connection = sqlite3.connect(path)
    with connection:
        for statement in statements:
            assert connection.execute(statement).rowcount > 0
    connection.close()
