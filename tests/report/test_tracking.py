"""Campaigns in experiment trackers: what is written, what not yet, and the real libraries."""

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from commands import aarlab
from extension_kit import distribution, installed

from aarlab.core.errors import NotFound
from aarlab.core.files import write_json
from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport
from aarlab.report.data_files import leaderboard_csv
from aarlab.report.load import load_export
from aarlab.report.settings import QUIET, without_telemetry
from aarlab.report.tracking import EXPORTERS, Destination, Tracking, csv_of, tracking_of
from aarlab.report.view import campaign_view

GOLDEN = Path(__file__).parent / "golden" / "export.json"
EVENTS = [{"time": "2026-11-25T09:41:00+00:00", "event": "aar_ended", "text": "arms: a ended"}]


@pytest.fixture(scope="module")
def ended() -> CampaignExport:
    return load_export(GOLDEN)


# ---------------------------------------------------------------- what is written
def test_rows_follow_the_submissions_of_each_aar(ended: CampaignExport) -> None:
    made = tracking_of(ended, True)
    for aar in made.aars:
        mine = sorted((s for s in ended.submissions if s.aar == aar.name), key=lambda s: s.at)
        assert [row.figures[f"{s.task}/search_pgr"] for row, s in zip(aar.rows, mine, strict=True)]
        assert [row.step for row in aar.rows] == list(range(1, len(mine) + 1))
        best = [row.figures["math/best_search_pgr"] for row in aar.rows]
        assert best == sorted(best) and best[-1] == max(s.exact.value for s in mine)
        own = [row.own_hours for row in aar.rows]
        assert own == sorted(own) and all(
            0 < hours <= row.research_hours for hours, row in zip(own, aar.rows, strict=True)
        )
        assert aar.totals["submissions"] == len(mine)
    spent = sum(aar.totals["spend/dollars"] for aar in made.aars)
    assert made.campaign.totals["spend/dollars"] == pytest.approx(spent)
    assert len({one.key for one in (made.campaign, *made.aars)}) == len(made.aars) + 1


def test_verified_results_are_those_of_the_report(ended: CampaignExport) -> None:
    made = tracking_of(ended, True)
    rows = list(csv.DictReader(io.StringIO(csv_of(made.tables["verified-math"]))))
    assert csv_of(made.tables["verified-math"]) == leaderboard_csv(campaign_view(ended, "math"))
    assert rows
    for aar in made.aars:
        mine = [float(r["selection_pgr"]) for r in rows if r["aar"] == aar.name]
        if mine:
            assert aar.totals["math/selection_pgr"] == pytest.approx(max(mine), abs=1e-5)
    assert any("math/selection_pgr" in aar.totals for aar in made.aars)
    assert "math/plain_pgr" in made.campaign.totals


def test_while_it_runs_nothing_is_written_that_aars_have_not_seen(ended: CampaignExport) -> None:
    made = tracking_of(ended, False, EVENTS)
    assert made.tables == {} and not made.ended
    written = json.dumps(
        [[one.params, one.totals, [r.figures for r in one.rows]] for one in _runs(made)]
    )
    shown = {s.score.pgr for s in ended.submissions}
    for one in _runs(made):
        for row in one.rows:
            assert set(row.figures) == {"math/shown_pgr", "math/best_shown_pgr"}
            assert set(row.figures.values()) <= shown
        assert {name.partition("/")[0] for name in one.totals} == {"spend", "submissions"}
    held_out = ended.spec["campaign"]["held_out"]
    assert held_out == ["code"] and "code@" not in written
    for verification in ended.verifications:
        if verification.estimate is not None:
            assert str(verification.estimate.value) not in written


def _runs(made: Tracking) -> list[Any]:
    return [made.campaign, *made.aars]


# ---------------------------------------------------------------- MLflow
@pytest.fixture
def quiet() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in QUIET:
            patch.delenv(name, raising=False)
        without_telemetry()
        yield


def _mlflow_runs(folder: Path) -> dict[str, Any]:
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{folder / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("aarlab")
    assert experiment is not None
    found = client.search_runs([experiment.experiment_id])
    runs = {run.info.run_name: run for run in found}
    assert len(runs) == len(found)
    return {"client": client, **runs}


@pytest.mark.filterwarnings("ignore")
def test_mlflow_has_the_curves_and_is_added_to(
    quiet: None, ended: CampaignExport, tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    to, send = Destination(str(tmp_path), "aarlab"), EXPORTERS.get("mlflow").send
    half = ended.model_copy(update={"submissions": ended.submissions[:40]})
    send(tracking_of(half, False), to)
    running = _mlflow_runs(tmp_path)
    assert not any(name.endswith("search_pgr") for name in running["arms"].data.metrics)
    assert running["arms"].info.status == "RUNNING"
    made = tracking_of(ended, True, EVENTS)
    for _ in range(2):  # the second adds nothing
        send(made, to)
        runs = _mlflow_runs(tmp_path)
        client = runs["client"]
        for one in made.aars:
            run = runs[one.name]
            assert run.info.status == "FINISHED"
            assert run.data.tags["mlflow.parentRunId"] == runs["arms"].info.run_id
            history = client.get_metric_history(run.info.run_id, "math/search_pgr")
            assert {m.step: m.value for m in history} == {
                row.step: row.figures["math/search_pgr"] for row in one.rows
            }
            assert len(history) == len(one.rows)
            minutes = client.get_metric_history(run.info.run_id, "math/search_pgr_by_minute")
            assert [m.step for m in minutes] == [round(r.research_hours * 60) for r in one.rows]
            assert {k: run.data.metrics[k] for k in one.totals} == one.totals
    whole = runs["arms"].info.run_id
    files = {file.path for file in client.list_artifacts(whole)}
    assert files == {"verified-math.csv", "verified-code.csv", "events.json"}
    events = client.download_artifacts(whole, "events.json", str(tmp_path))
    assert json.loads(Path(events).read_text()) == {"events": EVENTS}
    assert runs["arms"].data.metrics["math/plain_pgr"] == made.campaign.totals["math/plain_pgr"]


@pytest.mark.filterwarnings("ignore")
def test_mlflow_that_does_not_answer_is_explained(
    quiet: None, ended: CampaignExport, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("mlflow")
    file = tmp_path / "file"
    file.write_text("not a database")
    where = f"sqlite:///{file}"
    code, said = aarlab(capsys, "report", "track", str(GOLDEN), "--to", "mlflow", "--where", where)
    assert code == 2 and "MLflow at" in said and "Traceback" not in said


# ---------------------------------------------------------------- W&B
def _log_records(log: bytes) -> Iterator[bytes]:
    """Yield the records of a .wandb file: a LevelDB log in blocks of 32 KiB, after 7 bytes."""
    at, parts = 7, b""
    while at + 7 <= len(log):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = int.from_bytes(log[at + 4 : at + 6], "little"), log[at + 6]
        parts += log[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # a whole one, or the last part of one
            yield parts
            parts = b""


@pytest.mark.filterwarnings("ignore")
def test_wandb_is_written_offline_and_says_nothing_of_the_machine(
    quiet: None, ended: CampaignExport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    from wandb.proto import wandb_internal_pb2 as records

    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    made = tracking_of(ended, True, EVENTS)
    made = replace(made, aars=made.aars[:2])
    said = EXPORTERS.get("wandb").send(made, Destination(str(tmp_path / "out"), "aarlab"))
    assert "wandb sync" in said
    for one in (made.campaign, *made.aars):
        (path,) = tmp_path.glob(f"out/wandb/offline-run-*-{one.key}/*.wandb")
        rows: list[dict[str, Any]] = []
        summary: dict[str, Any] = {}
        for data in _log_records(path.read_bytes()):
            record = records.Record.FromString(data)
            kind = record.WhichOneof("record_type")
            if kind == "history":
                items = record.history.item
                rows.append(
                    {i.key or "/".join(i.nested_key): json.loads(i.value_json) for i in items}
                )
            elif kind == "summary":
                summary |= {
                    i.key or "/".join(i.nested_key): json.loads(i.value_json)
                    for i in record.summary.update
                }
            elif kind == "run":
                assert (record.run.run_group, record.run.project) == ("arms", "aarlab")
                assert record.run.host == "" and not record.run.HasField("git")
        curve = [row["math/search_pgr"] for row in rows if "math/search_pgr" in row]
        assert curve == [row.figures["math/search_pgr"] for row in one.rows]
        hours = [row["research_hours"] for row in rows if "math/search_pgr" in row]
        assert hours == [row.research_hours for row in one.rows]
        assert {name: summary[name] for name in one.totals} == one.totals
        kept = [p.name for p in path.parent.glob("files/*") if p.is_file()]
        assert not {"requirements.txt", "wandb-metadata.json"} & set(kept)
    (path,) = tmp_path.glob(f"out/wandb/offline-run-*-{made.campaign.key}")
    tables = [p.name for p in path.rglob("*.table.json")]
    assert {name.partition("_")[0] for name in tables} == {
        "verified-math",
        "verified-code",
        "events",
    }


# ---------------------------------------------------------------- the command
RECORDER = """
import json
from aarlab.report.tracking import Exporter

def send(tracking, to):
    one = [tracking.ended, len(tracking.aars), [e["text"] for e in tracking.events], to.project]
    with open(to.where + ".json", "w", encoding="utf-8") as out:
        json.dump(one, out)
    return "lines of " + tracking.campaign.name

EXPORTER = Exporter("lines", send)
"""


def test_the_command_with_an_exporter_of_a_package(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site, run = tmp_path / "site", RunDir(tmp_path / "run")
    distribution(site, "lines", {"aarlab.exporters": {"lines": "lines_exporter:EXPORTER"}})
    (site / "lines_exporter.py").write_text(RECORDER)
    run.path.mkdir()
    export = json.loads(GOLDEN.read_text())
    write_json(run.export, {**export, "ending": "finished"})
    write_json(run.spec, {"campaign": export["spec"]["campaign"]})
    ends = [{"at": "2026-11-25T09:47:00+00:00", "kind": "campaign_ended", "ending": "finished"}]
    starts = [{"at": "2026-11-25T09:40:00+00:00", "kind": "campaign_started"}]
    words = ("report", "track", str(run.path), "--to", "lines", "--project", "p")

    def written(*events: dict[str, str]) -> Any:
        run.events.write_text("".join(json.dumps(event) + "\n" for event in events))
        code, said = aarlab(capsys, *words)
        assert code == 0 and "wrote lines of arms" in said
        return json.loads((run.path / "tracking.json").read_text())

    with installed(site):
        EXPORTERS.refresh()
        try:
            assert written(*starts, *ends) == [
                True,
                14,
                ["arms: started", "arms: ended: finished"],
                "p",
            ]
            assert written(*starts, *ends, *starts)[0] is False, "resumed, and interrupted"
            code, said = aarlab(capsys, "report", "track", str(run.path), "--to", "none")
            assert code == 2 and "mlflow, wandb, lines" in said
        finally:
            EXPORTERS.refresh()
    with pytest.raises(NotFound):
        EXPORTERS.get("lines")
