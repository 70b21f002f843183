"""The recorded campaign of docs/: it can be read, its books agree, and the page quotes it right."""

import csv
import gzip
from pathlib import Path

import pytest

from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import TranscriptEntry
from aarlab.core.wire import CampaignExport

DOCS = Path(__file__).parents[2] / "docs"
RECORDED = DOCS / "recorded"


@pytest.fixture(scope="module")
def export() -> CampaignExport:
    return CampaignExport.model_validate_json((RECORDED / "export.json").read_bytes())


def test_the_books_of_transcripts_ledger_and_platform_agree(export: CampaignExport) -> None:
    with (RECORDED / "ledger.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(export.model_spend) == 9
    for spend in export.model_spend:
        raw = gzip.decompress((RECORDED / "transcripts" / f"{spend.aar}.jsonl.gz").read_bytes())
        entries = [TranscriptEntry.model_validate_json(line) for line in raw.splitlines()]
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
