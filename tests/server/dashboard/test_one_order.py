"""One ranking, one verdict, one name and one colour everywhere, on a stored campaign."""

import csv
import io
import json
import re
import time
from pathlib import Path

import httpx
import pytest
from platform_kit import Running
from seats import facts, operator_seat

from aarlab.cli import audit
from aarlab.core.headline import verdict_of
from aarlab.core.wire import CampaignExport, NewVerdict
from aarlab.report.data_files import SPREADSHEETS, summary_of
from aarlab.report.drawing import style_of
from aarlab.report.repeating import repeat_notes
from aarlab.report.tables import leaderboard
from aarlab.report.view import campaign_view, task_reference

Line = tuple[int | None, str]


@pytest.fixture(scope="module")
def export(served: Running) -> CampaignExport:
    with served.operator() as operator:
        found = operator.export()
        one = next(e for e in found.leaderboard if e.task == "math" and e.rank == 2)
        about = {"snapshot": one.snapshot, "by": "ann", "reason": "tried out"}
        operator.give_verdict(NewVerdict(decision="disqualified", **about))
        return operator.export()


def test_report_dashboard_and_export_have_one_order(
    served: Running, export: CampaignExport
) -> None:
    view = campaign_view(export, "math")
    verified = [m for m in view.methods if m.verified]
    expected: list[Line] = [(m.rank, m.short) for m in verified]
    standing = [line for line, m in zip(expected, verified, strict=True) if m.ranks]
    n_out = len(expected) - len(standing)
    assert n_out >= 1 and expected[: len(standing)] == standing, "what is out stands last"
    assert all(rank is None for rank, _ in expected[-n_out:])
    assert sum(rank is None for rank, _ in standing) == 4, "two baselines by hand and two guards"
    assert [rank for rank, _ in standing if rank] == list(range(1, len(standing) - 3))

    assert [(e.rank, e.short) for e in export.leaderboard if e.task == "math"] == standing

    with operator_seat(served) as client:
        page = facts(client, "/leaderboard?task=math")
        campaign = facts(client, "/")
    assert page["pages"] == 1
    assert [(e["rank"], e["short"]) for e in page["entries"]] == expected
    guards = {m.short: view.guard_verdict(m) or "" for m in verified}
    assert {e["short"]: e["against_guard"] for e in page["entries"]} == guards
    tcs = {m.short: m.contribution for m in verified}
    assert {e["short"]: e["contribution"] for e in page["entries"]} == pytest.approx(tcs)

    table = leaderboard(view).rows[: len(expected)]
    assert [(r.cells[1].text, r.cells[0].text) for r in table] == [
        (str(rank or "–"), short) for rank, short in expected
    ]
    sheet = csv.DictReader(io.StringIO(SPREADSHEETS["leaderboard.csv"](view)))
    assert [(int(r["rank"]) if r["rank"] else None, r["short"]) for r in sheet] == expected
    summary = summary_of(view)
    assert [(m["rank"], m["short"]) for m in summary["methods"] if m["selection"]] == expected
    assert summary["verdict"] == view.verdict == verdict_of(export, "math") == campaign["verdict"]


def test_audit_list_names_and_orders_methods_the_same_way(
    export: CampaignExport, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path
) -> None:
    monkeypatch.setattr(audit, "_export", lambda folder: export)
    monkeypatch.setenv("COLUMNS", "400")
    audit.list_audits(tmp_path, everything=True)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("clear")]
    view = campaign_view(export)
    expected = [m.short for m in view.methods if m.verified and m.role == "aar"]
    told = [name for line in lines for name in line.split() if name in expected]
    assert list(dict.fromkeys(told)) == [name for name in expected if name in told]
    assert len(set(told)) > 3


def drawn_curve(client: httpx.Client) -> dict:
    """The curve with all exact scores, which are worked out in the background."""
    for _ in range(600):
        drawn = json.loads(client.get("/live/curve", params={"task": "math"}).text)
        if not drawn["waiting"]:
            return drawn
        time.sleep(0.1)
    raise AssertionError(f"{drawn['waiting']} exact scores are missing after a minute")


def test_search_minus_selection_has_one_sign_and_one_name(
    served: Running, export: CampaignExport
) -> None:
    view = campaign_view(export, "math")
    with operator_seat(served) as client:
        drawn_curve(client)
        page = facts(client, "/leaderboard?task=math")
        shown = client.get("/leaderboard?task=math").text
    ours = {e["short"]: e["drop"] and e["drop"]["value"] for e in page["entries"]}
    reports = {m.short: d and d.value for m in view.methods if m.verified for d in [view.drop(m)]}
    assert ours == pytest.approx(reports, abs=2e-3) and max(filter(None, ours.values())) > 0.3
    first = next(m for m in view.methods if m.verified and m.search)
    own = next(e["drop"]["own"] for e in page["entries"] if e["short"] == first.short)
    assert own == pytest.approx(first.search.value - first.verified.value, abs=2e-3)
    titles = [column.title for column in leaderboard(view).columns]
    assert "Search − selection" in titles and ">search − selection</th>" in shown
    assert "gap" not in re.sub(r"<[^>]+>", " ", shown)


def test_a_task_has_one_name_in_report_dashboard_and_list(
    served: Running, export: CampaignExport
) -> None:
    root = served.task.data
    info = next(t for t in export.tasks if t.name == "math")
    listed = root.find_task("math").reference
    assert task_reference(export, info) == listed == f"math@{info.content_hash[:12]}"
    with operator_seat(served) as client:
        page = facts(client, "/tasks")
    assert {t["name"]: t["reference"] for t in page["tasks"]}["math"] == listed
    bound = {"campaign": {"tasks": ["math"], "versions": {"math": "0123456789ab"}}}
    later = export.model_copy(update={"spec": bound})
    assert task_reference(later, info) == "math@0123456789ab"
    said = dict(repeat_notes(campaign_view(later, "math")))["Tasks"]
    assert "math@0123456789ab, pair embedded" in said and "chat@0000000000" in said


def test_an_aar_has_one_colour_in_report_and_dashboard(
    served: Running, export: CampaignExport
) -> None:
    with operator_seat(served) as client:
        drawn = drawn_curve(client)
    series = drawn["series"]
    css = (Path(audit.__file__).parents[1] / "server/dashboard/static/style.css").read_text()
    looks = campaign_view(export).looks
    assert len(series) > 5
    for one in series:
        look = looks[one["aar"]]
        assert one["look"] == look._asdict()
        assert f"--series-{look.hue + 1}: {style_of(look).colour}" in css
