"""The chain's check on the page finds what somebody changed in the database."""

import shutil
import sqlite3
from pathlib import Path

import pytest
from platform_kit import TinyTask, platform
from seats import facts, operator_seat

from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport


def checked(client) -> str:
    page = client.get("/log/check").text
    while "Checked up to" in page:
        page = client.get("/log/check").text
    return page


@pytest.mark.parametrize(
    "change",
    [None, "UPDATE log SET body = '{}' WHERE seq = 700", "DELETE FROM log WHERE seq > 900"],
)
def test_a_changed_entry_or_a_cut_end_shows(
    seeded: tuple[TinyTask, RunDir], tmp_path: Path, change: str | None
) -> None:
    task, run = seeded
    shutil.copytree(run.path, tmp_path / "run")
    mine = RunDir(tmp_path / "run")
    with platform(task, mine, "--task", "math"):
        pass  # exports a signed head
    if change is not None:
        database = sqlite3.connect(mine.database)
        database.execute(change)
        database.commit()
        database.close()
    with platform(task, mine, "--task", "math") as running, operator_seat(running) as client:
        page = checked(client)
        if change is None:
            assert "The chain is whole" in page and "signed head" in page
            entries = facts(client, "/log")["entries"]
            assert len(entries) == 50 and all(e["fault"] == "" for e in entries)
            first = facts(client, "/log?before=4")["entries"]
            assert [(e["seq"], e["fault"]) for e in first] == [(3, ""), (2, ""), (1, "")]
            got = client.get("/log/export")
            assert "export.json" in got.headers["content-disposition"]
            with running.operator() as operator:
                own = CampaignExport.model_validate_json(got.text)
                assert own.snapshots == operator.export().snapshots != []
            verdicts = facts(client, "/log?kind=verdict")["entries"]
            assert {e["kind"] for e in verdicts} == {"verdict"}
        elif "UPDATE" in change:
            assert "entry 700" in page and "up to entry 699" in page
            bad = facts(client, "/log?before=701")["entries"][0]
            assert bad["seq"] == 700 and "does not match" in bad["fault"]
            assert "entry 700" in client.get("/log/check?again=true").text
        else:
            assert "signed head" in page and "broken" in page
