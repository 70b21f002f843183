"""Which variables of model providers are set: the only reader of the environment for all agents."""

import os
from collections.abc import Collection


def any_set(names: Collection[str]) -> bool:
    """Whether one of these variables has a value; the value itself is not returned."""
    return any(os.environ.get(name, "").strip() for name in names)
