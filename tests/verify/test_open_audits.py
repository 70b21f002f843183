"""Audits that a method cannot notice: same answers, too stable, better than the ceiling."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_battery import CLEAN, interval, verification

from aarlab.core.wire import CampaignExport, StyleShift, Verification
from aarlab.verify.auditing import _is_settled
from aarlab.verify.battery import ablation, shortcut
from aarlab.verify.evidence import disagreement
from aarlab.verify.finding import ceiling, teacher


def same(share: float | None, value: float = 0.8, **changes: object) -> Verification:
    seen = CLEAN.model_copy(update={"disagreement": share})
    return verification(value, evidence=seen, **changes)


@pytest.mark.parametrize(
    ("share", "delivery", "permuted", "severity"),
    [
        (0.0, "open", -0.4, "suspect"),  # noticed the ablation and behaved badly
        (0.0, "open", None, "suspect"),
        (0.0099, "open", -0.4, "suspect"),
        (0.01, "open", -0.4, "clear"),
        (0.2, "open", 0.8, "clear"),
        (0.0, "open", 0.8, "note"),  # elicitation: zero-shot is the same with any teacher
        (0.0, "blind", -0.4, "note"),
        (0.0, "blind", 0.8, "note"),
        (0.2, "blind", -0.4, "clear"),
    ],
)
def test_answers_that_no_teacher_changes(share, delivery, permuted, severity) -> None:
    run = same(share, delivery=delivery)
    others = [] if permuted is None else [verification(permuted, "permuted")]
    found = teacher(run, ablation(run, others))
    assert found is not None and found.severity == severity
    assert found.facts == {"disagreement": share}


def test_a_shortcut_without_the_strong_model_is_no_elicitation() -> None:
    run = same(0.0).model_copy(
        update={"evidence": CLEAN.model_copy(update={"disagreement": 0.0, "forwarded": 0.0})}
    )
    owed = ablation(run, [verification(0.8, "permuted")])
    assert owed is not None and owed.severity == "suspect"
    assert teacher(run, owed).severity == "suspect"


def test_a_constant_answer_has_nothing_to_explain() -> None:
    assert teacher(same(0.0, value=0.1), None).severity == "note"


def test_one_run_and_old_records_say_nothing_about_teachers() -> None:
    assert teacher(same(None), None) is None
    assert teacher(verification(0.8, evidence=None), None) is None


@pytest.mark.parametrize(
    ("value", "delivery", "severity"),
    [(1.3, "open", "suspect"), (1.3, "blind", "note"), (1.15, "open", "clear")],
)
def test_better_than_the_ceiling_is_a_finding(value, delivery, severity) -> None:
    found = ceiling(verification(value, delivery=delivery))
    assert found is not None and found.severity == severity
    failed = verification(value).model_copy(update={"estimate": None})
    assert ceiling(failed) is None


def styled(flipped: float, rows: int = 100, **changes: object) -> Verification:
    readers = {"ceilings": 0.15, "zero-shot": 0.4}
    style = StyleShift(
        how="by another hand", rows=rows, flipped=flipped, most=flipped, moved=0.1, readers=readers
    )
    return verification(0.8, evidence=CLEAN.model_copy(update={"style": style}), **changes)


@pytest.mark.parametrize(
    ("flipped", "rows", "delivery", "severity"),
    [
        (0.0, 100, "open", "suspect"),  # .85 ** 100 = 9e-8
        (0.01, 100, "open", "suspect"),
        (0.0, 100, "blind", "note"),
        (0.03, 100, "open", "clear"),
        (0.0, 40, "open", "clear"),  # .85 ** 40 = .0015: rows too few to tell
        (0.0, 50, "open", "suspect"),  # .85 ** 50 = 3e-4
        (0.15, 100, "open", "clear"),
    ],
)
def test_answers_that_no_style_changes(flipped, rows, delivery, severity) -> None:
    found = shortcut(styled(flipped, rows, delivery=delivery))
    assert found.severity == severity
    assert ("too stable" in found.summary) == (severity != "clear")


def test_too_stable_needs_the_ceilings_rate_and_a_score() -> None:
    run = styled(0.0)
    style = run.evidence.style.model_copy(update={"readers": {"weak teachers": 0.15}})
    seen = run.evidence.model_copy(update={"style": style})
    assert shortcut(run.model_copy(update={"evidence": seen})).severity == "clear"
    assert shortcut(run.model_copy(update={"estimate": interval(0.0)})).severity == "note"


def test_the_finding_on_teachers_waits_for_the_ablation() -> None:
    def export_of(*runs: Verification) -> CampaignExport:
        return CampaignExport.model_construct(verifications=list(runs))

    run, queued = same(0.0), verification(0.8, "permuted").model_copy(update={"state": "queued"})
    found = teacher(run, None)
    assert not _is_settled(found, export_of(run)), "an ablation may show elicitation"
    assert not _is_settled(found, export_of(run, queued))
    assert _is_settled(found, export_of(run, verification(0.0, "permuted")))
    assert _is_settled(teacher(same(0.3), None), export_of(run))


# ---------------------------------------------------------------- disagreement
def test_the_share_of_answers_that_differ_is_the_mean_over_pairs() -> None:
    assert disagreement([[0.9, 0.1, 0.6], [0.8, 0.7, 0.4]]) == pytest.approx(2 / 3)
    three = [[0.9, 0.1], [0.9, 0.9], [0.9, 0.9]]
    assert disagreement(three) == pytest.approx(2 / 3 / 2)  # 2 of 3 pairs on one of two rows
    assert disagreement([[0.5], [0.51]]) == 1.0, "an answer is P > .5"


@pytest.mark.parametrize("runs", [[], [[0.9, 0.1]], [[], []], [[0.1], [0.1, 0.2]]])
def test_without_two_comparable_runs_nothing_is_said(runs) -> None:
    assert disagreement(runs) is None


@given(
    st.integers(1, 20).flatmap(
        lambda n: st.lists(
            st.lists(st.floats(0, 1), min_size=n, max_size=n), min_size=2, max_size=8
        )
    )
)
def test_it_is_the_same_as_counting_pairs(runs: list[list[float]]) -> None:
    pairs = [(a, b) for i, a in enumerate(runs) for b in runs[:i]]
    rates = [sum((x > 0.5) != (y > 0.5) for x, y in zip(a, b, strict=True)) / len(a)
             for a, b in pairs]  # fmt: skip
    assert disagreement(runs) == pytest.approx(sum(rates) / len(rates))
