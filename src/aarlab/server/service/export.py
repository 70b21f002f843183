"""The whole campaign as one document, for the operator. Exact scores are computed here only."""

import asyncio
import json
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from aarlab.core.clock import now_iso, parse_iso
from aarlab.core.errors import BaselineMissing, Damaged, GapNotPositive, NotFound
from aarlab.core.ranking import placed, role_of
from aarlab.core.types import EVAL_SPLITS
from aarlab.core.wire import (
    AarRecord,
    BaselineAccuracy,
    BestFigure,
    CampaignExport,
    SessionRecord,
    SubmissionRecord,
    Verification,
)
from aarlab.server.ideas import ideas_of
from aarlab.server.platform import Platform
from aarlab.server.recorded import Recorded
from aarlab.server.tasks import task_info
from aarlab.store import (
    aars,
    controls,
    forum,
    ledger,
    log,
    overview,
    snapshots,
    submissions,
    verifications,
)
from aarlab.store.submissions import Stored
from aarlab.store.verifications import board


async def exported(platform: Platform, ideas: bool) -> CampaignExport:
    """Export the campaign, for the route and the dashboard's download; `ideas` adds ideas."""
    async with platform.store.database.read_much() as tx:
        made = await _export(tx, platform)
    if not ideas:
        return made
    found = await asyncio.to_thread(ideas_of, platform.store.snapshots, made)
    return made.model_copy(update={"ideas": found})


async def _export(tx: AsyncConnection, platform: Platform) -> CampaignExport:
    spec, names = _spec(platform), platform.scorer.tasks()
    sessions = await aars.all_sessions(tx)
    settled = await verifications.in_state(tx)
    stored = await submissions.all_stored(tx)
    records, decided = await aars.records(tx), await verifications.decisions(tx)
    exported_at = now_iso()
    started_at = min((s.started_at for s in sessions), default=exported_at)
    ended_at = max((s.last_seen_at for s in sessions), default=started_at)
    return CampaignExport(
        campaign=_name(spec, platform.settings.run.name),
        spec=spec,
        exported_at=exported_at,
        started_at=started_at,
        wall_s=(parse_iso(ended_at) - parse_iso(started_at)).total_seconds(),
        tasks=[task_info(platform, name) for name in names],
        baselines=_baselines(platform, names),
        aars=records,
        sessions=sessions,
        submissions=await asyncio.to_thread(_submissions, platform, stored, sessions),
        snapshots=await snapshots.all_snapshots(tx),
        findings=await forum.all_findings(tx),
        verifications=settled,
        leaderboard=await board(tx, settled, names, decided),
        best=await _best(tx, platform, settled, records, decided),
        audits=await verifications.all_audits(tx),
        verdicts=await verifications.all_verdicts(tx),
        case_verdicts=await verifications.all_case_verdicts(tx),
        budget=await ledger.budget_of_campaign(tx),
        model_spend=await ledger.model_spend(tx),
        operator_spend=await ledger.operator_spend(tx),
        controls=await controls.listed(tx),
        head=await log.head(tx),
    )


async def _best(
    tx: AsyncConnection,
    platform: Platform,
    settled: list[Verification],
    records: list[AarRecord],
    decided: verifications.Decided,
) -> list[BestFigure]:
    """Work out for each task what choosing its best method flatters that method by."""
    roles = {aar.name: role_of(aar.researcher, aar.arm) for aar in records}
    found = []
    for task in platform.scorer.tasks():
        board = placed(settled, task, decided.unranked, roles, decided.accepted)
        standing = (line for line in board if not line.kept_out and not line.apart)
        mine = [line for line in standing if line.role == "aar"]
        if not mine or mine[0].rank is None:
            continue
        runs = [await overview.rerun_predictions(tx, line.run.id) for line in mine]
        compared = [one for one in runs if one is not None]
        if len(compared) < len(runs):
            continue  # records of before predictions were kept
        best = mine[0].run.snapshot
        try:
            figure = await asyncio.to_thread(platform.scorer.best, task, "selection", compared)
        except (BaselineMissing, GapNotPositive):
            continue
        except NotFound:
            if not isinstance(platform.scorer, Recorded):
                raise
            past = platform.scorer.best_figure(task)
            found += [past] if past is not None and past.snapshot == best else []
            continue
        found.append(
            BestFigure(task=task, snapshot=best, n_compared=len(compared), estimate=figure)
        )
    return found


def _spec(platform: Platform) -> dict[str, Any]:
    path = platform.settings.run_dir.spec
    if not path.exists():
        return {}
    try:
        spec = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        raise Damaged(f"{path} is not JSON: restore the campaign's spec") from None
    if not isinstance(spec, dict):
        raise Damaged(f"{path} is not a JSON object: restore the campaign's spec")
    return spec


def _name(spec: dict[str, Any], folder: str) -> str:
    campaign = spec.get("campaign")
    return str(campaign["name"]) if isinstance(campaign, dict) and "name" in campaign else folder


def _baselines(platform: Platform, tasks: list[str]) -> list[BaselineAccuracy]:
    found = []
    for task in tasks:
        for split in EVAL_SPLITS:
            try:
                found.append(platform.scorer.baselines(task, split))
            except (BaselineMissing, NotFound):
                continue  # a task need not have every split; what is there is listed
    return found


def _submissions(
    platform: Platform, stored: list[Stored], sessions: list[SessionRecord]
) -> list[SubmissionRecord]:
    return [_submission(platform, item, sessions) for item in stored]


def _submission(
    platform: Platform, item: Stored, sessions: list[SessionRecord]
) -> SubmissionRecord:
    shown, scorer = item.shown, platform.scorer
    try:
        exact = scorer.estimate(shown.task, "search", item.predictions)
        accuracy = scorer.accuracy(shown.task, "search", item.predictions)
    except NotFound:
        if not isinstance(scorer, Recorded):
            raise
        past = scorer.submission(shown.submission)
        exact, accuracy = past.exact, past.accuracy
    return SubmissionRecord(
        id=shown.submission,
        aar=item.aar,
        task=shown.task,
        method=shown.method,
        snapshot=shown.snapshot,
        at=shown.at,
        research_h=sum(aars.seconds(s, until=shown.at) for s in sessions) / 3600,
        score=shown.score,
        exact=exact,
        accuracy=accuracy,
    )
