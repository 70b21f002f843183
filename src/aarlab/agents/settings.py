"""Checks which variables of model providers are set.

This is the only module that reads the environment for all agents.
"""

import os
from collections.abc import Collection


def any_set(names: Collection[str]) -> bool:
    """Return whether one of these variables has a value. The value itself is not returned."""
    return any(os.environ.get(name, "").strip() for name in names)
