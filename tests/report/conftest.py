"""A realistic synthetic export: 3 AARs, 45 submissions, 3 hand-tuned baselines, 4 guards."""

import random
from datetime import UTC, datetime, timedelta

import pytest

from aarlab.core.wire import (
    AarRecord,
    BaselineAccuracy,
    CampaignExport,
    Comment,
    Finding,
    Head,
    Interval,
    LeaderboardEntry,
    Limits,
    Score,
    SessionRecord,
    Snapshot,
    SubmissionRecord,
    TaskInfo,
    Verification,
)

START = datetime(2026, 11, 20, 9, 0, tzinfo=UTC)
SCRIPT = "<script>alert(1)</script>"
HOSTILE_METHOD = f'{SCRIPT}"><img src=x onerror=alert(2)> $\\frac{{$ 数学 🚀'
LONG_METHOD = (
    "posterior_with_length_and_unconditional_likelihood_residualised_then_self_trained_twice"
)
AARS = {"rowan": "elicitation", "edda": "reweighting", "evan": "combining soft labels"}
RESEARCHERS = {"rowan": "random", "edda": "evolutionary", "evan": "evolutionary"}
HUMANS = {"vanilla": 0.118, "confident": 0.071, "aux_confidence": 0.236}
GUARDS = {
    "guard_majority": -0.912,
    "guard_length": -0.264,
    "guard_tfidf": -0.187,
    "guard_ensemble": 0.143,
}


def minute(minutes: float) -> str:
    return (START + timedelta(minutes=minutes)).isoformat(timespec="microseconds")


def estimate(value: float, stderr: float = 0.055, n_rows: int = 800, n_seeds: int = 5) -> Interval:
    return Interval(
        value=round(value, 4),
        stderr=stderr,
        low=round(value - 2.02 * stderr, 4),
        high=round(value + 2.1 * stderr, 4),
        n_rows=n_rows,
        n_seeds=n_seeds,
        covers=["rows", "weak teacher seeds", "ceiling seeds", "transfer seeds"],
    )


def score(submission: str, value: float, left: int) -> Score:
    return Score(
        submission=submission,
        pgr=round(value, 2),
        stderr=0.06,
        n=800,
        step=0.05,
        improved=value > 0,
        submissions_left=left,
        isolation="bubblewrap",
    )


def submission(
    number: int, aar: str, method: str, value: float, minutes: float, snapshot: str | None
) -> SubmissionRecord:
    name = f"sub_{number:012x}"
    return SubmissionRecord(
        id=name,
        aar=aar,
        task="math",
        method=method,
        snapshot=snapshot,
        at=minute(minutes),
        research_h=round(minutes * 3 / 60, 5),
        score=score(name, value, 15 - number // 3),
        exact=estimate(value),
        accuracy=round(0.62 + 0.25 * value, 4),
    )


def verification(
    number: int, snapshot: str, aar: str, method: str, value: float | None, ablation: str = "none"
) -> Verification:
    return Verification.model_validate(
        {
            "id": f"ver_{number:012x}",
            "snapshot": snapshot,
            "aar": aar,
            "method": method,
            "task": "math",
            "split": "selection",
            "ablation": ablation,
            "run_seeds": [101 + 7 * k for k in range(8)],
            "state": "failed" if value is None else "done",
            "estimate": None if value is None else estimate(value, 0.048, 1000, 8),
            "accuracy": None if value is None else round(0.62 + 0.25 * value, 4),
            "isolation": "bubblewrap",
            "seconds": 11.4,
            "error": "method raised ValueError: <b>bad</b> shape" if value is None else "",
            "at": minute(6 + number / 10),
        }
    )


def _aar(name: str, researcher: str, direction: str, arm: str, research_s: float) -> AarRecord:
    baseline = researcher == "fixed"
    return AarRecord(
        name=name,
        researcher=researcher,
        direction=direction,
        arm=arm,
        isolation="bubblewrap",
        limits=Limits(submissions=15, hours=0.5),
        research_s=research_s,
        spend={}
        if baseline
        else {
            "device_s": 96.5,
            "input_tokens": 120_400.0,
            "output_tokens": 18_220.0,
            "cache_read_tokens": 80_100.0,
            "dollars": 0.42,
        },
    )


def _search_submissions() -> list[SubmissionRecord]:
    rng = random.Random(7)
    records = []
    for number in range(45):
        aar = list(AARS)[number % 3]
        progress = number / 44
        reach = {"rowan": 0.30, "edda": 0.48, "evan": 0.66}[aar]
        value = reach * progress**0.6 + rng.gauss(0, 0.14) - 0.05
        if number in (7, 22):
            value = -1.4 + number / 50
        method = f"{AARS[aar].split()[0]}_recipe_{number:02d}"
        if number == 41:
            method, value = HOSTILE_METHOD, 0.731
        if number == 43:
            method, value = LONG_METHOD, 0.544
        records.append(
            submission(number, aar, method, value, 0.25 + 0.11 * number, f"{number:040x}")
        )
    return records


def _baseline_submissions() -> list[SubmissionRecord]:
    records = []
    for number, (method, value) in enumerate((HUMANS | GUARDS).items(), start=100):
        aar = "human" if method in HUMANS else "guards"
        records.append(submission(number, aar, method, value, 0.0, None))
    return records


def _snapshots(records: list[SubmissionRecord]) -> list[Snapshot]:
    return [
        Snapshot(
            id=record.snapshot or "",
            aar=record.aar,
            name=record.method,
            message='{"label": "posterior", "strength": 1.5, "select": "all"}\nTried because '
            f"confident rows are the wrong ones. {SCRIPT}",
            parent=records[index - 3].snapshot if index >= 3 else None,
            at=record.at,
            n_files=2,
            n_bytes=1834,
        )
        for index, record in enumerate(records)
    ]


def _verifications(records: list[SubmissionRecord]) -> list[Verification]:
    best = sorted(records, key=lambda r: -r.exact.value)[:7]
    found = []
    for number, record in enumerate(best):
        value = None if number == 6 else record.exact.value * 0.82 - 0.02 * number
        found.append(verification(number, record.snapshot or "", record.aar, record.method, value))
    for number, record in enumerate(best[:3]):
        permuted = (-0.41, 0.38, -0.22)[number]
        found.append(
            verification(
                20 + number, record.snapshot or "", record.aar, record.method, permuted, "permuted"
            )
        )
    return found


def _baseline_snapshots() -> list[Snapshot]:
    """Frozen under the names that their submissions have, which cite none."""
    return [
        Snapshot(
            id=f"{number:040x}",
            aar="human" if name in HUMANS else "guards",
            name=name,
            message="",
            parent=None,
            at=minute(0),
            n_files=1,
            n_bytes=80,
        )
        for number, name in enumerate(HUMANS | GUARDS, start=100)
    ]


def _baseline_verifications() -> list[Verification]:
    """Another figure than on search: the split must be told apart."""
    return [
        verification(number, s.id, s.aar, s.name, (HUMANS | GUARDS)[s.name] * 0.9 - 0.01)
        for number, s in enumerate(_baseline_snapshots(), start=40)
    ]


def _findings(records: list[SubmissionRecord]) -> list[Finding]:
    kinds = ("result", "hypothesis", "insight", "error")
    return [
        Finding(
            id=f"fin_{index:012x}",
            seq=index + 1,
            author=record.aar,
            at=record.at,
            kind=kinds[index % 4],  # type: ignore[arg-type]
            title=f"{SCRIPT} beats vanilla"
            if index == 13
            else f"Recipe {index}: what the labels miss",
            text=f"The teacher errs where style misleads.\n{SCRIPT}\n" + "Long text. " * 30,
            submission=record.id,
            snapshot=record.snapshot,
            score=record.score,
            comments=[
                Comment(id=f"com_{index}", author="edda", at=record.at, text="Seen here too.")
            ],
        )
        for index, record in enumerate(records[1::4])
    ]


def task_info() -> TaskInfo:
    return TaskInfo(
        name="math",
        kind="verification",
        title="Math word problems",
        description="Is the worked solution right?",
        pair="embedded",
        n_train=3200,
        n_search=800,
        teacher_seeds=[0, 1, 2, 3, 4],
        settings={"source": "generator", "cue_rate": 0.58},
        content_hash="a" * 64,
    )


def baseline(split: str, n_rows: int) -> BaselineAccuracy:
    return BaselineAccuracy(
        task="math",
        split=split,
        weak=0.648,
        ceiling=0.8785,
        weak_seeds=5,
        ceiling_seeds=5,
        n_rows=n_rows,
    )


def build_export() -> CampaignExport:
    records = _search_submissions()
    verifications = [*_verifications(records), *_baseline_verifications()]
    best = verifications[0]
    assert best.estimate is not None
    return CampaignExport(
        campaign="demo",
        spec={"name": "demo", "tasks": ["math"], "note": SCRIPT},
        exported_at=minute(9),
        started_at=minute(0),
        wall_s=262.5,
        tasks=[task_info()],
        baselines=[baseline("search", 800), baseline("selection", 1000)],
        aars=[
            *(_aar(n, RESEARCHERS[n], d, "directed", 301.0) for n, d in AARS.items()),
            _aar("human", "fixed", "", "human", 40.0),
            _aar("guards", "fixed", "", "guard", 12.0),
        ],
        sessions=[SessionRecord(aar="edda", started_at=minute(0), last_seen_at=minute(5))],
        submissions=[*_baseline_submissions(), *records],
        snapshots=[*_baseline_snapshots(), *_snapshots(records)],
        findings=_findings(records),
        verifications=verifications,
        leaderboard=[
            LeaderboardEntry(
                rank=1,
                snapshot=best.snapshot,
                aar=best.aar,
                method=best.method,
                task="math",
                pgr=0.6,
                low=0.5,
                high=0.7,
                n_seeds=8,
            )
        ],
        head=Head(seq=173, hash="5f" * 32),
    )


@pytest.fixture(scope="session")
def export() -> CampaignExport:
    return build_export()
