"""Which frozen code a submission of predictions belongs to."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple


class Sent(NamedTuple):
    """A submission. `snapshot` is the one that it cites itself, if any."""

    id: str
    aar: str
    method: str
    snapshot: str | None


class Frozen(NamedTuple):
    """A snapshot."""

    id: str
    aar: str
    name: str


def snapshots_of(
    sent: Iterable[Sent],
    frozen: Iterable[Frozen],
    cited: Iterable[tuple[str, str, str]],
) -> Mapping[str, str]:
    """Map each submission to its snapshot, as stated by its AAR; omit submissions without one.

    AARs mostly submit predictions first and freeze the code once the score is good. The snapshot
    is therefore taken, in this order, from the submission itself, from the first finding that cites
    both, or from the name, if the same AAR has only one snapshot of that name. `cited` are (author,
    submission, snapshot) of findings, oldest first. Work of another AAR is never joined; a snapshot
    that the submission cites was checked when it was submitted.
    """
    code = {one.id: one for one in frozen}
    by_name: dict[tuple[str, str], list[str]] = {}
    for one in code.values():
        by_name.setdefault((one.aar, one.name), []).append(one.id)
    said: dict[tuple[str, str], str] = {}
    for author, submission, snapshot in cited:
        if snapshot in code and code[snapshot].aar == author:
            said.setdefault((author, submission), snapshot)
    joined = {}
    for each in sent:
        named = by_name.get((each.aar, each.method), [])
        found = each.snapshot or said.get((each.aar, each.id))
        found = found or (named[0] if len(named) == 1 else None)
        if found is not None:
            joined[each.id] = found
    return joined
