"""The environment of child processes; only this module here reads the environment itself."""

import os
from collections.abc import Mapping


def child_environment(added: Mapping[str, str]) -> dict[str, str] | None:
    """Return this process's environment with additions, or None for it as it is."""
    return {**os.environ, **added} if added else None
