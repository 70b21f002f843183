"""The same code in two hands: a copy only where the original could be seen."""

import pytest

from aarlab.core.wire import NewAudit, Snapshot
from aarlab.verify.auditing import code_audits

CODE = {"method.py": b"def fit(task, student, seed):\n    return student.new()\n"}
RESTYLED = {
    "method.py": b'def fit(task, student, seed):\n    """Mine."""\n    return student.new()'
}


def frozen(snapshot: str, aar: str) -> Snapshot:
    known = {"name": "m", "message": "", "parent": None, "at": "t", "n_files": 1, "n_bytes": 9}
    return Snapshot(id=snapshot, aar=aar, **known)


def copies(teams: dict[str, str], *order: str, recipe: bool = False) -> dict[str, NewAudit]:
    """Audits by AAR; every AAR froze the same code, in this order."""
    made = [frozen(f"{aar}{'0' * 39}"[:40], aar) for aar in order]
    more = {"recipe.json": b"{}"} if recipe else {}
    code = {s.id: {**(CODE if s.aar == order[0] else RESTYLED), **more} for s in made}
    found = code_audits(made, code, [s.id for s in made], None, teams)
    return {audit.aar: audit for audit in found if audit.kind == "copy"}


@pytest.mark.parametrize(("recipe", "severity"), [(False, "suspect"), (True, "note")])
def test_code_of_the_own_team_is_a_copy(recipe: bool, severity: str) -> None:
    found = copies({"ann": "a", "bob": "a"}, "ann", "bob", recipe=recipe)
    assert (found["ann"].severity, found["bob"].severity) == ("clear", severity)
    assert "which ann handed in before" in found["bob"].summary


def test_what_an_aar_could_not_see_it_did_not_copy() -> None:
    found = copies({"ann": "a", "bob": "b"}, "ann", "bob")
    assert found["bob"].severity == "clear"
    assert "found twice, not copied" in found["bob"].summary and "ann" in found["bob"].summary


def test_an_original_in_sight_counts_also_behind_one_out_of_sight() -> None:
    found = copies({"ann": "a", "bob": "b", "cid": "b"}, "ann", "bob", "cid")
    assert (found["bob"].severity, found["cid"].severity) == ("clear", "suspect")
    assert "which bob handed in before" in found["cid"].summary


def test_without_teams_all_see_all() -> None:
    assert copies({}, "ann", "bob")["bob"].severity == "suspect"
