"""Alembic runs this file: migrations go over the connection that `store.migrate` was given."""

from alembic import context

from aarlab.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    render_as_batch=True,  # SQLite alters a table by copying it
    transactional_ddl=True,  # all of it or nothing, also on SQLite
)
with context.begin_transaction():
    context.run_migrations()
