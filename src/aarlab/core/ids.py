"""Short random identifiers, safe in paths and URLs. Their order has no meaning."""

import re
import secrets

from aarlab.core.errors import BadInput

SEED_RANGE = 2**31
NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


def new_id(prefix: str) -> str:
    """Return a random id, e.g. `sub_3f9c1a2b7d5e`: 48 random bits."""
    return f"{prefix}_{secrets.token_hex(6)}"


def draw_seeds(n_seeds: int) -> list[int]:
    """Draw `n_seeds` distinct unpredictable seeds, in ascending order."""
    return sorted(secrets.SystemRandom().sample(range(SEED_RANGE), n_seeds))


def checked_name(name: str, what: str) -> str:
    """Return a name that is safe in a path, or raise BadInput."""
    if not NAME.fullmatch(name) or ".." in name:
        raise BadInput(
            f"{what} name {name!r}: use 1-64 of a-z 0-9 _ . - starting with a letter or digit"
        )
    return name
