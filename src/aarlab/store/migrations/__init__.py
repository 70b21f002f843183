"""Alembic's scripts. A new one: copy the last of `versions`, count up, `make test` compares."""
