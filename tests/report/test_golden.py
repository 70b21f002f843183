"""A real campaign's report against committed numbers.

`golden/export.json` is a campaign of evolutionary researchers on the embedded math task (2 arms,
3 replicates of 2 AARs). Edited: posts, evidence, clear audits and a third arm are left out;
`replicate`, `team` and the price of a device hour were filled in afterwards, by the AARs' names.
After a wanted change of the numbers run
`python tests/report/test_golden.py`, and look at the difference before it is committed.
"""

import csv
import math
from pathlib import Path

import pytest

from aarlab.report.data_files import SPREADSHEETS
from aarlab.report.load import load_export
from aarlab.report.view import CampaignView, campaign_view

GOLDEN = Path(__file__).parent / "golden"
SHEETS = ("teams", "differences", "diversity", "transfer", "spend", "leaderboard", "ideas")


@pytest.fixture(scope="module")
def view() -> CampaignView:
    return campaign_view(load_export(GOLDEN / "export.json"))


@pytest.mark.parametrize("name", SHEETS)
def test_every_number_is_the_committed_one(view: CampaignView, name: str) -> None:
    made = list(csv.reader(SPREADSHEETS[f"{name}.csv"](view).splitlines()))
    expected = list(csv.reader((GOLDEN / f"{name}.csv").read_text().splitlines()))
    assert len(made) == len(expected) > 1
    for row, wanted in zip(made, expected, strict=True):
        assert len(row) == len(wanted)
        assert all(map(same, row, wanted)), (row, wanted)


def same(a: str, b: str) -> bool:
    try:
        return math.isclose(float(a), float(b), rel_tol=1e-4, abs_tol=1e-6)
    except ValueError:
        return a == b


def test_the_numbers_agree_with_each_other(view: CampaignView) -> None:
    """Recomputed here from the export, by another way than the report's."""
    rows = list(csv.DictReader(SPREADSHEETS["teams.csv"](view).splitlines()))
    for row in rows:
        names = [a.name for a in view.export.aars if a.arm == row["arm"]
                 and a.replicate == int(row["replicate"])]  # fmt: skip
        best = max(
            v.estimate.value
            for v in view.export.verifications
            if v.aar in names and v.task == "math" and v.ablation == "none" and v.estimate
        )
        assert float(row["verified"]) == pytest.approx(best, rel=1e-5)
    difference = next(csv.DictReader(SPREADSHEETS["differences.csv"](view).splitlines()))
    means = {
        arm: sum(float(r["verified"]) for r in rows if r["arm"] == arm) / 3
        for arm in ("directed", "undirected")
    }
    expected = means["undirected"] - means["directed"]
    assert float(difference["value"]) == pytest.approx(expected, rel=1e-4)


if __name__ == "__main__":
    made = campaign_view(load_export(GOLDEN / "export.json"))
    for name in SHEETS:
        (GOLDEN / f"{name}.csv").write_text(SPREADSHEETS[f"{name}.csv"](made))
