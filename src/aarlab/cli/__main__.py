"""`python -m aarlab.cli`: the same as `aarlab`."""

from aarlab.cli.main import app

app()
