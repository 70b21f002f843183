"""What must hold of re-runs, whoever did them and whatever died meanwhile."""

import json
import sqlite3
from collections import Counter
from typing import Any

from aarlab.core.layout import RunDir
from aarlab.core.wire import CampaignExport

APART = {"id", "at", "seconds", "snapshot"}  # of one re-run made twice


def re_runs(export: CampaignExport) -> dict[tuple[str, ...], dict[str, Any]]:
    """What became of each re-run, by what was re-run."""
    found = {}
    for one in export.verifications:
        facts = one.model_dump(mode="json", exclude=APART)
        found[one.aar, one.method, one.task, one.split, one.ablation] = facts
    return found


def claims(run: RunDir) -> Counter[str]:
    """How often each re-run was claimed."""
    with sqlite3.connect(run.database) as database:
        rows = database.execute("select body from log where kind = 'verification_claimed'")
        return Counter(json.loads(body)["id"] for (body,) in rows)
