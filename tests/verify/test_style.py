"""The style probe's figures: of which run, beside which readers, and when they are suspect."""

import pytest
from test_battery import CLEAN, verification

from aarlab.core.types import Example
from aarlab.core.wire import Evidence, StyleShift
from aarlab.testbed.running.controls import PROBES
from aarlab.testbed.running.job import JobOutput, RunRecord, StyleMoved
from aarlab.testbed.tasks.twins import TwinReference
from aarlab.verify.battery import ablation, shortcut
from aarlab.verify.evidence import Given, read_evidence

KNOWN = TwinReference(how="by another hand", rows=50, readers={"ceilings": 0.2, "zero-shot": 0.4})
CHANGED = {"alone": 0.0, "crowded": 0.0}
ROWS = [Example("a", "g", "p", ("t",))]


def output(*styles: StyleMoved | None) -> JobOutput:
    """Of runs with their probes, as the runner writes both; of unprobed ones for None."""
    cost = {"teacher_seed": 0, "seconds": 1, "compute": {}, "diagnostics": {}}
    records = [
        RunRecord(seed=i, changed=dict.fromkeys(PROBES, 0.0) if style else {}, style=style, **cost)
        for i, style in enumerate(styles)
    ]
    return JobOutput(
        task="t", split="selection", ablation="none", ids=[], runs=[], records=records, seconds=1
    )


def test_evidence_has_the_mean_and_the_run_that_followed_most() -> None:
    styles = [StyleMoved(flipped=f, moved=m) for f, m in ((0.1, 0.5), (0.9, 0.25), (0.0, 0.0))]
    seen = read_evidence(b"", False, Given(ROWS, KNOWN), output(*styles)).style
    assert seen == StyleShift(
        how="by another hand",
        rows=50,
        flipped=1 / 3,
        most=0.9,
        moved=0.25,
        readers={"ceilings": 0.2, "zero-shot": 0.4},
    )


@pytest.mark.parametrize("given", [Given(ROWS), Given(ROWS, KNOWN)])
def test_without_twins_or_a_probe_there_is_no_figure(given: Given) -> None:
    assert read_evidence(b"", False, given, output(None)).style is None
    assert read_evidence(b"", False, given, None).style is None


def test_evidence_kept_before_there_were_twins_still_reads() -> None:
    old = CLEAN.model_dump(exclude={"style"})
    assert Evidence.model_validate(old).style is None


def followed(flipped: float, usual: float = 0.4, most: float | None = None, **changes) -> Evidence:
    style = StyleShift(
        how="by another hand",
        rows=50,
        flipped=flipped,
        most=flipped if most is None else most,
        moved=0.3,
        readers={"ceilings": 0.1, "zero-shot": usual},
    )
    return CLEAN.model_copy(update={"changed": CHANGED, "style": style, **changes})


@pytest.mark.parametrize(
    ("flipped", "usual", "severity"),
    [
        (0.0, 0.4, "clear"),
        (0.69, 0.4, "clear"),
        (0.71, 0.4, "suspect"),
        (1.0, 0.1, "suspect"),
        (1.0, 0.8, "suspect"),
        (0.89, 0.8, "clear"),
        (0.91, 0.88, "suspect"),
        (0.89, 0.95, "clear"),
        (0.91, 0.95, "note"),
        (1.0, 1.0, "note"),
    ],
)
def test_following_the_style_is_graded_by_what_honest_readers_do(
    flipped: float, usual: float, severity: str
) -> None:
    found = shortcut(verification(0.5, evidence=followed(flipped, usual)))
    assert found.severity == severity
    assert found.facts["style"] == flipped and found.facts["style_usual"] == usual
    assert f"{flipped:.0%} of 50 in another style (ceilings 10%, zero-shot {usual:.0%})" in (
        found.summary
    )


def test_one_run_that_stands_out_is_noted_beside_the_mean() -> None:
    """A method that knows the rows after its first run looks like this; so do unsteady ones."""
    found = shortcut(verification(0.5, evidence=followed(0.13, most=1.0)))
    assert found.severity == "note" and "13% of 50" in found.summary
    assert "up to 100% in a run" in found.summary and found.facts["style_most"] == 1.0


def test_a_handful_of_rows_is_only_noted() -> None:
    few = followed(1.0).style.model_copy(update={"rows": 19})
    found = shortcut(verification(0.5, evidence=followed(1.0, style=few)))
    assert found.severity == "note" and "too few rows" in found.summary


def test_a_task_without_twins_says_that_style_was_not_probed() -> None:
    found = shortcut(verification(0.5, evidence=followed(0.0, style=None)))
    assert found.severity == "clear" and "style was not probed" in found.summary


def test_the_worse_of_company_and_style_decides() -> None:
    compares = followed(0.0, changed={"alone": 0.3})
    assert shortcut(verification(0.5, evidence=compares)).severity == "suspect"
    both = shortcut(verification(0.5, evidence=followed(1.0, changed={"alone": 0.02})))
    assert both.severity == "suspect" and both.facts["alone"] == 0.02


def test_without_any_probe_the_finding_says_so() -> None:
    found = shortcut(verification(0.5, evidence=followed(1.0, changed={})))
    assert (found.severity, found.summary) == ("suspect", "the probes did not run")


def test_a_score_without_the_teacher_and_by_style_is_a_shortcut() -> None:
    true, permuted = verification(0.8, evidence=followed(1.0)), verification(0.8, "permuted")
    found = ablation(true, [permuted])
    assert found is not None and found.severity == "suspect" and "shortcut" in found.summary
