"""The recorded campaigns of docs/: they can be read, books agree, and pages quote them right."""

import csv
import gzip
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from aarlab.core.hashing import LogEntry, LogHead, verify_chain
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import TranscriptEntry
from aarlab.core.wire import CampaignExport

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = DOCS / "recorded"
LOST = [DOCS / "recorded-slurm", DOCS / "recorded-ray"]  # each lost a node in the middle
OWN = r"(?<![\w.~/:*\\-])/([a-z]\w*)(?=/[\w.])"  # the first part of an absolute path
INSIDE = {"workspace", "notes", "public", "students", "usr", "dev", "proc", "tmp"}  # a sandbox


def export_of(folder: Path) -> CampaignExport:
    return CampaignExport.model_validate_json((folder / "export.json").read_bytes())


@pytest.fixture(scope="module")
def export() -> CampaignExport:
    return export_of(RECORDED)


def transcript(folder: Path, aar: str) -> list[TranscriptEntry]:
    raw = gzip.decompress((folder / "transcripts" / f"{aar}.jsonl.gz").read_bytes())
    return [TranscriptEntry.model_validate_json(line) for line in raw.splitlines()]


@pytest.mark.parametrize("folder", [RECORDED, *LOST], ids=lambda path: path.name)
def test_the_books_of_transcripts_ledger_and_platform_agree(folder: Path) -> None:
    export = export_of(folder)
    with (folder / "ledger.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(export.model_spend) == 9
    for spend in export.model_spend:
        entries = transcript(folder, spend.aar)
        said = [entry for entry in entries if entry.kind == "assistant"]
        calls = [line for line in lines if line["aar"] == spend.aar and line["model"] != "all"]
        assert len(said) == len(calls) == spend.calls
        for kind in TOKEN_KINDS:
            told = sum(entry.tokens.get(kind, 0) for entry in said)
            assert told == sum(int(line[kind]) for line in calls) == getattr(spend, kind)
        dollars = sum(entry.dollars or 0.0 for entry in said)
        assert dollars == pytest.approx(spend.dollars, rel=1e-9)


def test_the_page_quotes_the_export(export: CampaignExport) -> None:
    page = " ".join((DOCS / "recorded-campaign.md").read_text().split())
    for entry in export.leaderboard[:5]:
        name = entry.aar if entry.aar not in ("human", "guards") else ""
        assert f"| {entry.pgr:.2f} | {entry.low:.2f} to {entry.high:.2f} |" in page, entry
        assert name in page
    counts = (
        f"{len(export.submissions)} submissions, {len(export.snapshots)} snapshots, "
        f"{len(export.verifications)} re-runs, {len(export.findings)} posts, "
        f"{sum(spend.calls for spend in export.model_spend)} model calls"
    )
    assert counts in page
    cheats = {v.snapshot: v.decision for v in export.verdicts if v.decision == "disqualified"}
    named = {s.aar for s in export.snapshots if s.id in cheats}
    assert named == {"cleo", "milo"}
    assert not any(entry.snapshot in cheats for entry in export.leaderboard)


# ---------------------------------------------------------------- a node was lost
@pytest.fixture(params=LOST, ids=lambda path: path.name)
def lost(request: pytest.FixtureRequest) -> Path:
    return request.param


def course_of(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "course.json").read_text(encoding="utf-8"))


def log_of(folder: Path) -> list[LogEntry]:
    lines = gzip.decompress((folder / "log.jsonl.gz").read_bytes()).splitlines()
    return [LogEntry(**json.loads(line)) for line in lines]


def test_a_lost_node_doubled_nothing(lost: Path) -> None:
    export, course = export_of(lost), course_of(lost)
    names = {spend.aar for spend in export.model_spend}
    moved, calls = names & set(course["lost_aars"]), course["model_calls"]
    assert moved and course["calls_before"].keys() == names
    assert all(course["moved_to"][name] != course["lost_node"] for name in moved)
    assert calls["recorded"] == sum(spend.calls for spend in export.model_spend)
    assert calls["recorded"] <= calls["asked"] <= calls["recorded"] + len(moved)
    assert len(export.submissions) == course["submissions"]
    for name in names:
        entries = transcript(lost, name)
        assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
        results = Counter(entry.call for entry in entries if entry.kind == "tool_result")
        methods = Counter(one.method for one in export.submissions if one.aar == name)
        titles = Counter(one.title for one in export.findings if one.author == name)
        for counted in (results, methods, titles):
            assert counted and set(counted.values()) == {1}, (name, counted.most_common(2))
    kinds = Counter(
        json.loads(line)["kind"] for line in (lost / "events.jsonl").read_text().splitlines()
    )
    assert kinds["campaign_ended"] == 1 and not kinds["process_crashed"]
    assert {one.state for one in export.verifications} == {"done"} != set()


def test_the_recorded_log_is_intact_and_holds_the_same_sums(lost: Path) -> None:
    export, entries = export_of(lost), log_of(lost)
    assert verify_chain(entries, LogHead(export.head.seq, export.head.hash)).seq == len(entries)
    booked = [entry.body for entry in entries if entry.kind == "model_call"]
    for spend in export.model_spend:
        mine = [body for body in booked if body["aar"] == spend.aar]
        assert len(mine) == spend.calls
        for kind in TOKEN_KINDS:
            assert sum(body[kind] for body in mine) == getattr(spend, kind)
        assert sum(body["dollars"] for body in mine) == pytest.approx(spend.dollars, rel=1e-9)


def test_nothing_of_a_machine_and_no_secret_is_recorded(lost: Path) -> None:
    size = 0
    for path in (path for path in lost.rglob("*") if path.is_file()):
        raw = path.read_bytes()
        size += len(raw)
        if path.suffix == ".png":
            continue
        text = (gzip.decompress(raw) if path.suffix == ".gz" else raw).decode()
        assert set(re.findall(OWN, text)) <= INSIDE, path.name
        assert not re.search(r"sk-[a-z0-9]|aar_[0-9a-f]{20}|(sup|pod)_[0-9a-f]{20}", text), (
            path.name
        )
    assert size < 1_500_000


def test_the_page_quotes_what_was_lost(lost: Path) -> None:
    page = " ".join((DOCS / "recorded-campaign.md").read_text().split())
    export, course = export_of(lost), course_of(lost)
    calls, back = course["model_calls"], course["seconds_until_the_new_life"].values()
    moved = [name for name in course["lost_aars"] if name in course["calls_before"]]
    for said in (
        course["version"],
        ", ".join(f"{name} in call {course['calls_before'][name]}" for name in moved),
        f"{min(back):.0f} to {max(back):.0f} s",
        f"{calls['asked']} / {calls['recorded']}",
        f"{len(export.submissions)} / {len(export.findings)} / {len(export.snapshots)}",
        f"{len(log_of(lost))} entries",
        f"{sum(spend.dollars for spend in export.model_spend):.2f}",
    ):
        assert said in page, said
