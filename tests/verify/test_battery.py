"""The battery's judgement on figures written by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.wire import (
    AarRecord,
    CampaignExport,
    Evidence,
    Interval,
    Snapshot,
    SubmissionRecord,
    Traces,
    Verification,
)
from aarlab.verify.battery import ablation, execution, forensics, rerun, shortcut

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
        task="t",
        split="selection",
        ablation=ablation,
        run_seeds=[1, 2],
        state="done",
        **{"evidence": CLEAN, "snapshot": "s", "aar": "ann", "method": "m"}
        | {"estimate": interval(value), **changes},
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
        (0.1, 0.1, CLEAN, "note", "nothing to attribute"),
        (0.1, -0.4, CLEAN, "note", "nothing to attribute"),
    ],
)
def test_a_score_is_attributed(true, permuted, evidence, severity, said) -> None:
    found = ablation(verification(true, evidence=evidence), [verification(permuted, "permuted")])
    assert found is not None and found.severity == severity and said in found.summary


def test_a_contribution_is_at_most_all_and_stands_beside_a_coin() -> None:
    found = ablation(verification(0.8), [verification(-0.4, "permuted")], coin=-0.39)
    assert found is not None and found.facts["teacher_contribution"] == 1.0
    assert "TC 1.00" in found.summary and found.summary.endswith("; a coin has -0.39")


def test_few_seeds_make_the_same_fall_less_certain() -> None:
    """As wide as 5 standard errors: a t quantile of few degrees of freedom."""
    wide = interval(0.8).model_copy(update={"low": 0.3, "high": 1.3})
    found = [
        ablation(verification(0.8, estimate=one), [verification(0.2, "permuted")])
        for one in (interval(0.8), wide)
    ]
    z = [one.facts["z"] for one in found if one is not None]
    half = 1.959964
    assert z == [pytest.approx(0.6 * half / np.hypot(0.2, 0.2)),
                 pytest.approx(0.6 * half / np.hypot(0.5, 0.2))]  # fmt: skip


def export(vanilla_search: float | None, vanilla: float, claim: float) -> CampaignExport:
    """A method that claims `claim` on search, and vanilla, which every campaign runs."""
    plain = verification(vanilla, snapshot="v", aar="human", method="vanilla")
    made = Snapshot(id="v", aar="human", name="vanilla", message="", parent=None, at="",
                    n_files=1, n_bytes=1)  # fmt: skip
    claims = [claimed("s", "ann", "m", claim)]
    if vanilla_search is not None:
        claims.append(claimed(None, "human", "vanilla", vanilla_search))
    return CampaignExport.model_construct(
        aars=[AarRecord.model_construct(name=name, researcher=kind, arm=arm)
              for name, kind, arm in (("ann", "random", "default"), ("human", "fixed", "human"))],
        tasks=[], submissions=claims, snapshots=[made], verifications=[plain], baselines=[],
    )  # fmt: skip


def claimed(snapshot: str | None, aar: str, method: str, value: float) -> SubmissionRecord:
    return SubmissionRecord.model_construct(
        id=method, aar=aar, task="t", method=method, snapshot=snapshot, exact=interval(value)
    )


def test_a_drop_that_vanilla_shares_is_no_broken_claim() -> None:
    """All fell by .5: what moved is the rows and the public teachers, not the claim."""
    shared = rerun(verification(0.3), export(0.5, 0.0, claim=0.8))
    assert shared.severity == "clear" and shared.facts["drop"] == pytest.approx(0.0)
    assert "less vanilla's +0.50" in shared.summary
    alone = rerun(verification(0.3), export(0.0, 0.0, claim=0.8))
    assert alone.severity == "suspect" and alone.facts["drop"] == pytest.approx(0.5)
    error = np.hypot(0.2, 0.2) / 1.959964  # of the less certain of both drops, here alike
    assert alone.facts["drop_z"] == pytest.approx(0.5 / error)
    hidden = rerun(verification(0.6), export(0.0, 0.5, claim=0.8))
    assert hidden.severity == "suspect", "it fell by .2 where vanilla rose by .5"


def test_without_vanilla_a_claim_is_compared_with_itself_and_that_is_said() -> None:
    found = rerun(verification(0.3), export(None, 0.0, claim=0.8))
    assert found.severity == "suspect" and "vanilla was not run on both splits" in found.summary
    assert found.facts["drop"] == pytest.approx(0.5)


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
