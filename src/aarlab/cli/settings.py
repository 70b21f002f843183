"""Where the command looks for tasks, models and campaigns."""

import math
from pathlib import Path

import typer

from aarlab.core.layout import DataRoot
from aarlab.testbed.settings import load_settings


def finite(amount: float | None) -> float | None:
    """For options that are amounts: `nan` passes every bound."""
    if amount is not None and not math.isfinite(amount):
        raise typer.BadParameter("must be a finite number")
    return amount


def data_root() -> DataRoot:
    return DataRoot(Path(load_settings().home).expanduser().absolute())
