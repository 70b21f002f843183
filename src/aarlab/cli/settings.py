"""Where the command looks for tasks, models and campaigns."""

from pathlib import Path

from aarlab.core.layout import DataRoot
from aarlab.testbed.settings import load_settings


def data_root() -> DataRoot:
    return DataRoot(Path(load_settings().home).expanduser().absolute())
