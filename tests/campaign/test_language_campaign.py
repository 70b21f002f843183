"""A paid language-model AAR in a campaign: its budget ends it, and a person extends that."""

import json
import sqlite3
from pathlib import Path

import pytest
import yaml
from platform_kit import wait_for
from toy_campaign import command, finished, toy_spec

from aarlab.agents.state import load_state
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.ledger import tokens_of
from aarlab.report.load import load_export
from aarlab.store.log import verify_log

pytest.importorskip("inspect_ai")
MODEL, NAME = "scripted/elicitor", "directed-r1-a1"
PRICE = {"dated": "2026-11-01", "input": 3.0, "output": 15.0, "cache_read": 0.3}


def said(root: DataRoot, *words: str) -> None:
    code, out = finished(command(root, *words), 60)
    assert code == 0, out


def run_of(tmp_path: Path, root: DataRoot) -> tuple[RunDir, object]:
    changes = {
        "aars": [{"name": "guest", "researcher": "external", "arm": "guest"}],
        "arms": [{"arm": "directed", "aars": 1}],
        "language": {"model": MODEL, "max_output_tokens": 1000},
        "prices": {MODEL: PRICE},
        "limits": {"submissions": 2, "dollars": 0.15},
        "campaign_limits": {"dollars": 50.0},
    }
    raw = {**toy_spec().model_dump(mode="json"), **changes}
    path, run = tmp_path / "spec.yaml", RunDir(tmp_path / "run")
    path.write_text(yaml.safe_dump(raw))
    return run, command(root, "campaign", "run", str(path), "--out", str(run.path))


@pytest.mark.gate
def test_calls_are_paid_capped_extended_and_exported(tmp_path: Path, toy_root: DataRoot) -> None:
    run, process = run_of(tmp_path, toy_root)
    state = run.aar(NAME) / "state.json"
    wait_for(lambda: load_state(state).finished, 120)
    assert "dollars" in load_state(state).why
    said(toy_root, "aar", "extend", str(run.path), NAME, "--dollars", "20")
    wait_for(lambda: load_state(state).finished and "dollars" not in load_state(state).why, 150)
    said(toy_root, "aar", "stop", str(run.path), "guest")
    code, out = finished(process)
    assert code == 0, out
    export = load_export(run.export)
    (spent,) = export.model_spend
    record = next(aar for aar in export.aars if aar.name == NAME)
    assert (record.submissions, spent.aar, spent.model) == (2, NAME, MODEL)
    assert spent.dollars == pytest.approx(
        (spent.input_tokens * 3 + spent.output_tokens * 15 + spent.cache_read_tokens * 0.3) / 1e6,
        rel=1e-6,
    )
    assert tokens_of(record.spend) == tokens_of(spent.model_dump())
    calls = [e for e in log_of(run) if e["kind"] == "model_call"]
    assert len(calls) == spent.calls == len({e["call"] for e in calls})
    before_extension = sum(e["dollars"] for e in until_extended(run))
    assert 0 < before_extension <= 0.15, "reserved with its worst case, no call passed the cap"
    settings = json.loads(run.spec.read_text())["settings"]
    assert settings["prices"][MODEL]["dated"] == "2026-11-01" and settings["prompt_hash"]
    verify_log(run.database)


def log_of(run: RunDir) -> list[dict]:
    with sqlite3.connect(run.database) as connection:
        rows = connection.execute("SELECT kind, body FROM log ORDER BY seq").fetchall()
    connection.close()
    return [{**json.loads(body), "kind": kind} for kind, body in rows]


def until_extended(run: RunDir) -> list[dict]:
    entries = log_of(run)
    first = next(i for i, e in enumerate(entries) if e["kind"] == "control")
    return [e for e in entries[:first] if e["kind"] == "model_call"]
