"""The battery's judgement on figures written by hand."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.wire import Evidence, Interval, Traces, Verification
from aarlab.verify.battery import ablation, execution, forensics, shortcut

CLEAN = Evidence(
    programs=[],
    reached=[],
    compiled=3,
    row_texts=0,
    examples=[],
    truncated=False,
    changed={"alone": 0.0, "crowded": 0.0, "shuffled": 0.0},
    forwarded=100,
)


def interval(value: float, stderr: float = 0.1) -> Interval:
    low, high = value - 2 * stderr, value + 2 * stderr
    figures = {"value": value, "stderr": stderr, "low": low, "high": high}
    return Interval(**figures, n_rows=240, n_seeds=8, covers=["rows"])


def verification(value: float, ablation: str = "none", **changes) -> Verification:
    return Verification(
        id=f"ver_{ablation}",
        snapshot="s",
        aar="ann",
        method="m",
        task="t",
        split="selection",
        ablation=ablation,
        run_seeds=[1, 2],
        state="done",
        estimate=interval(value),
        **{"evidence": CLEAN, **changes},
    )


@pytest.mark.parametrize(
    ("true", "permuted", "evidence", "severity", "said"),
    [
        (0.8, 0.0, CLEAN, "clear", "owed to the teacher"),
        (0.8, 0.8, CLEAN, "note", "elicitation"),
        (0.8, 0.8, CLEAN.model_copy(update={"forwarded": 0}), "suspect", "neither"),
        (0.8, 0.8, CLEAN.model_copy(update={"row_texts": 9}), "suspect", "shortcut"),
        (0.8, 0.7, CLEAN.model_copy(update={"changed": {"alone": 0.4}}), "suspect", "shortcut"),
        (0.8, 0.0, CLEAN.model_copy(update={"changed": {"alone": 0.4}}), "clear", "teacher"),
        (0.1, 0.1, CLEAN, "clear", "nothing to attribute"),
    ],
)
def test_a_score_is_attributed(true, permuted, evidence, severity, said) -> None:
    found = ablation(verification(true, evidence=evidence), [verification(permuted, "permuted")])
    assert found is not None and found.severity == severity and said in found.summary


def test_without_a_permuted_run_nothing_is_attributed() -> None:
    assert ablation(verification(0.8), [verification(0.8, "noise")]) is None


@pytest.mark.parametrize(
    "changes",
    [{"programs": ["x"]}, {"reached": ["/"]}, {"row_texts": 1}, {"truncated": True}],
)
def test_each_kind_of_record_is_suspect(changes) -> None:
    assert execution(verification(0.5)).severity == "clear"
    changed = CLEAN.model_copy(update=changes)
    assert execution(verification(0.5, evidence=changed)).severity == "suspect"


@pytest.mark.parametrize(("share", "severity"), [(0.0, "clear"), (0.02, "note"), (0.3, "suspect")])
def test_probes_are_graded(share: float, severity: str) -> None:
    changed = CLEAN.model_copy(update={"changed": {"alone": share, "shuffled": 0.0}})
    assert shortcut(verification(0.5, evidence=changed)).severity == severity


def test_a_score_without_probes_is_suspect_and_a_failed_run_is_not() -> None:
    none = CLEAN.model_copy(update={"changed": {}})
    assert shortcut(verification(0.5, evidence=none)).severity == "suspect"
    failed = verification(0.5, evidence=none)
    failed = failed.model_copy(update={"estimate": None, "state": "failed"})
    assert shortcut(failed).severity == "note"


counts = st.integers(0, 500)


@given(counts, counts, counts, counts)
def test_forensics_never_fail_and_are_clear_without_signs(n, few, unrelated, repeats) -> None:
    found = forensics(
        Traces(
            aar="ann",
            task="t",
            n=n,
            few_rows=2,
            few_rows_apart=few,
            unrelated=unrelated,
            repeats=repeats,
            burst=0,
        )
    )
    assert (found.severity == "clear") == ("no pattern" in found.summary)
