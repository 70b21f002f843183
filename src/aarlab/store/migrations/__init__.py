"""Alembic's scripts.

To make a new one, copy the last of `versions` and count up. `make test` compares it with the
tables.
"""
