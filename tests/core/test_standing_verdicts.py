"""Verdicts that stand for a snapshot: its own and confirmed findings; the latest counts."""

from aarlab.core.verdicts import Worked, standing
from aarlab.core.wire import CaseVerdict, Verdict

WORKED = [
    Worked("ann", "math", "a-math"),
    Worked("ann", "code", "a-code"),
    Worked("ann", "math", "a-both"),
    Worked("ann", "code", "a-both"),
    Worked("bea", "math", "b-math"),
]


def case(at: int, decision: str, disqualifies: str = "nothing", audit: str = "aud_1"):
    return CaseVerdict(
        id=f"cvt_{at}", at=f"2026-01-{at:02}", aar="ann", task="math", audit=audit,
        decision=decision, disqualifies=disqualifies, reason="one by one", by="Ada",
    )  # fmt: skip


def own(at: int, snapshot: str, decision: str):
    given = {"id": f"vdt_{at}", "at": f"2026-01-{at:02}", "by": "Bob", "reason": "r"}
    return Verdict(snapshot=snapshot, decision=decision, **given)


def out(verdicts, cases) -> set[str]:
    found = standing(verdicts, cases, WORKED)
    return {s for s, given in found.items() if given[-1].decision != "accepted"}


def test_a_confirmed_finding_covers_what_it_says() -> None:
    assert out([], [case(1, "confirmed")]) == set()
    assert out([], [case(1, "confirmed", "task")]) == {"a-math", "a-both"}
    assert out([], [case(1, "confirmed", "all")]) == {"a-math", "a-code", "a-both"}
    (shown,) = standing([], [case(1, "confirmed", "task")], WORKED)["a-math"]
    assert (shown.id, shown.by) == ("cvt_1", "Ada")
    assert shown.reason == "one by one (finding aud_1 about ann's submissions on math)"


def test_a_dismissal_takes_it_back_and_leaves_other_findings_and_verdicts() -> None:
    confirmed, dismissed = case(2, "confirmed", "all"), case(4, "dismissed")
    assert out([], [confirmed, dismissed]) == set()
    assert out([own(1, "a-code", "rework")], [confirmed, dismissed]) == {"a-code"}
    other = case(3, "confirmed", "task", audit="aud_2")
    assert out([], [confirmed, other, dismissed]) == {"a-math", "a-both"}


def test_the_latest_counts_whichever_it_is() -> None:
    confirmed = case(2, "confirmed", "task")
    assert out([own(1, "a-math", "accepted")], [confirmed]) == {"a-math", "a-both"}
    assert out([own(3, "a-math", "accepted")], [confirmed]) == {"a-both"}
    again = case(4, "confirmed", "task")
    assert out([own(3, "a-math", "accepted")], [confirmed, again]) == {"a-math", "a-both"}
