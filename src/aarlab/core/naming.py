"""Short names of methods: `rowan-7` is the seventh method that the AAR rowan froze.

A name of an AAR's own choice may have 200 characters; it is kept, and shown on demand.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aarlab.core.ranking import Role

MAX_OWN_NAME = 40


class Made(NamedTuple):
    """A method as its author handed it in. `key` is the snapshot's id, or any other unique key."""

    key: str
    aar: str
    name: str
    saved: bool = True


def short_names(made: Iterable[Made], roles: Mapping[str, Role]) -> dict[str, str]:
    """Name each method by its author and a running number, in the order given (oldest first).

    Baselines keep their own names where those are short and not taken; of two equal ones the first
    keeps it. A method of which no code was saved is counted apart: `rowan-u2`, and what is saved
    has the first choice. All names differ from each other.
    """
    numbers: Counter[tuple[str, bool]] = Counter()
    names: dict[str, str] = {}
    own: dict[str, str] = {}
    for one in sorted(made, key=lambda one: not one.saved):
        if one.key in names:
            continue
        numbers[one.aar, one.saved] += 1
        names[one.key] = f"{one.aar}-{'' if one.saved else 'u'}{numbers[one.aar, one.saved]}"
        if roles.get(one.aar, "aar") != "aar" and one.name.isprintable():
            own[one.key] = one.name
    taken = set(names.values())
    for key, name in own.items():
        if len(name) <= MAX_OWN_NAME and name not in taken:
            names[key] = name
            taken.add(name)
    return names
