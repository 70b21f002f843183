"""Commands that print what AARs, people and providers wrote: nothing of it drives the terminal."""

import io
from pathlib import Path

import pytest

from aarlab.campaign.presets import PRESETS
from aarlab.campaign.status import AarStatus, CampaignStatus
from aarlab.cli import audit, compare, demo
from aarlab.cli.main import run_safely
from aarlab.cli.progress import CampaignView, print_status
from aarlab.cli.terminal import Console
from aarlab.core.errors import BadInput
from aarlab.core.layout import RunDir
from aarlab.core.wire import Audit, CampaignExport, Verdict
from aarlab.core.wire_ledger import CampaignLimits, Limits
from aarlab.report.view import campaign_view

HOSTILE = "[/public]\x1b[31m"
SHOWN = "[/public]\\x1b[31m"


@pytest.fixture
def hostile(export: CampaignExport) -> CampaignExport:
    """The names, findings, reasons and errors of the best method are hostile."""
    best = campaign_view(export).ranked[0].snapshot
    snapshots = [s.model_copy(update={"name": HOSTILE}) for s in export.snapshots]
    runs = [
        v.model_copy(update={"method": HOSTILE, "error": HOSTILE}) for v in export.verifications
    ]
    found = {"id": "aud_1", "at": "t", "kind": "shortcut", "aar": "evan", "severity": "suspect"}
    findings = [Audit(**found, snapshot=best, summary=HOSTILE)]
    findings.append(Audit(**{**found, "id": "aud_2"}, task="math", summary=HOSTILE))
    given = Verdict(id="v", at="t", snapshot=best, decision="rework", reason=HOSTILE, by=HOSTILE)
    return export.model_copy(update={"snapshots": snapshots, "verifications": runs,
                                     "audits": findings, "verdicts": [given]})  # fmt: skip


@pytest.fixture(autouse=True)
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


def test_audit_list_and_show_print_hostile_text_as_it_is(
    hostile: CampaignExport, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    monkeypatch.setattr(audit, "_export", lambda folder: hostile)
    audit.list_audits(tmp_path)
    listed = capsys.readouterr().out
    assert listed.count(SHOWN) == 2 and "\x1b" not in listed and "evan-" in listed
    audit.show(tmp_path, campaign_view(hostile).standings.board[-1].run.snapshot)
    shown = capsys.readouterr().out
    assert shown.count(SHOWN) >= 4 and "\x1b" not in shown
    assert f"{SHOWN}: rework: {SHOWN}" in shown


def test_errors_print_hostile_text_as_it_is(capsys) -> None:
    def fail() -> None:
        raise BadInput(f"no method {HOSTILE}")

    assert run_safely(fail) == 2
    assert capsys.readouterr().err == f"error (bad_input): no method {SHOWN}\n"


def test_live_events_and_status_print_hostile_text_as_it_is(tmp_path: Path) -> None:
    out = io.StringIO()
    console = Console(file=out, width=300)
    view = CampaignView(RunDir(tmp_path), PRESETS["demo"](), console)
    view.notify("submission", {"aar": "rowan", "method": f"{HOSTILE}\nforged line"})
    aar = AarStatus(
        name="rowan", arm="default", replicate=1, researcher="random", state=f"ended: {HOSTILE}",
        last_seen_at=None, done=0, submissions=0, hours=0, tokens=0, dollars=0,
        dollars_per_hour=None, left=Limits(),
    )  # fmt: skip
    none = {"hours": 0, "tokens": 0, "dollars": 0, "dollars_per_hour": None, "operator_spend": []}
    found = CampaignStatus(running=False, wanted="run", aars=[aar], left=CampaignLimits(), **none)
    spent = aar.model_copy(update={"state": "budget used up: rowan has used 4 of 4 submissions"})
    print_status(found.model_copy(update={"aars": [aar, spent]}), console)
    said = out.getvalue()
    assert "budget used up" in said and "4 of 4" not in said
    assert f"{SHOWN}\\nforged line" in said and f"ended: {SHOWN}" in said and "\x1b" not in said


def test_the_demo_ends_with_the_verdict_and_the_order_of_the_report(
    hostile: CampaignExport, capsys, tmp_path: Path
) -> None:
    from aarlab.report.data_files import summary_of

    view = campaign_view(hostile)
    demo.leaderboard(Console(), summary_of(view))
    said = capsys.readouterr().out
    demo.found(Console(), summary_of(view))
    ended = capsys.readouterr().out
    assert view.verdict in ended and "\x1b" not in said + ended
    names = [m.short for m in view.methods if m.verified]
    rows = [line.split("│") for line in said.splitlines() if line.startswith("│")]
    assert [row[2].strip() for row in rows] == names
    assert [row[1].strip() for row in rows] == [
        str(m.rank or "") for m in view.methods if m.verified
    ]


def test_comparing_arms_prints_hostile_names_as_they_are(
    export: CampaignExport, capsys, tmp_path: Path
) -> None:
    """Names of arms are a spec's; the spec may be somebody else's."""
    arms = [a.model_copy(update={"arm": HOSTILE if a.name == "rowan" else a.arm})
            for a in export.aars]  # fmt: skip
    path = tmp_path / "export.json"
    path.write_text(export.model_copy(update={"aars": arms}).model_dump_json())
    compare.compare(path, tmp_path / "out")
    said = capsys.readouterr().out
    assert SHOWN in said and "\x1b" not in said


def test_without_a_terminal_a_line_says_how_far_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = io.StringIO()
    view = CampaignView(RunDir(tmp_path), PRESETS["demo"](), Console(file=out, width=300))
    view.notify("reruns_left", {"count": 7})
    view.notify("tick", {})
    assert out.getvalue() == "", "nothing is said again within some seconds"
    monkeypatch.setattr("aarlab.cli.progress.QUIET_S", -1.0)
    view.notify("tick", {})
    said = out.getvalue()
    assert "at work: rowan, edda, " in said and "re-runs of the platform left: 7" in said


def test_the_live_table_counts_trials_against_the_limit_of_each_aar(tmp_path: Path) -> None:
    spec = PRESETS["demo"]()
    view = CampaignView(RunDir(tmp_path), spec, Console(file=io.StringIO(), width=300))
    counts = {aar.name: view._row(aar)[2] for aar in spec.aars}
    assert counts["human"] == "0/3", "fixed methods, each once"
    assert counts["rowan"] == f"0/{spec.limits.submissions}"
