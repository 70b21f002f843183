"""Short names of methods: `rowan-7` is the seventh method that the AAR rowan froze.

A name chosen by an AAR may have 200 characters. It is kept and shown on demand.
"""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from aarlab.core.ranking import Role

MAX_OWN_NAME = 40


class Made(NamedTuple):
    """A method as its author submitted it. `key` is its snapshot's id or any other unique key.

    `saved` says whether its code was saved.
    """

    key: str
    aar: str
    name: str
    saved: bool = True


def short_names(made: Iterable[Made], roles: Mapping[str, Role]) -> dict[str, str]:
    """Name each method by its author and a running number, in the given order (oldest first).

    Baselines keep their own names if those are short and not taken. Of two equal ones the first
    keeps it. Methods without saved code are numbered separately (`rowan-u2`); methods with saved
    code choose first. All names are distinct.
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
