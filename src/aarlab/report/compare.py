"""Comparison of two campaigns: differences with intervals, and why they may not be fair."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from aarlab.core.errors import BadInput
from aarlab.core.files import write_atomic
from aarlab.core.ranking import difference_low
from aarlab.core.wire import CampaignExport
from aarlab.report import more_tables, prose, wording
from aarlab.report.arms import Comparison, Side, compare, compare_arms, teams_of
from aarlab.report.data_files import comparison_differences_csv, comparison_teams_csv
from aarlab.report.render import comparison_page
from aarlab.report.tables import Cell, Column, Row, Table
from aarlab.report.view import campaign_view
from aarlab.report.write import escape, table_text

CHANGES_A_RESULT = ("limits", "seeds_per_submission", "verify", "isolation", "exact_feedback")


def compare_campaigns(first: CampaignExport, second: CampaignExport) -> Comparison:
    """Compare `first` minus `second` over their teams; raises BadInput without a shared task."""
    views = [campaign_view(export) for export in (first, second)]
    if views[0].task is None or views[1].task is None or views[0].task.name != views[1].task.name:
        named = " and ".join(v.task.name if v.task else "none" for v in views)
        raise BadInput(f"the campaigns report on different tasks ({named}): nothing to compare")
    names = _names(first, second)
    sides = [
        Side(name, view, teams_of(view.export)) for name, view in zip(names, views, strict=True)
    ]
    return compare(sides, names[1])


def _names(first: CampaignExport, second: CampaignExport) -> tuple[str, str]:
    if first.campaign != second.campaign:
        return first.campaign, second.campaign
    return f"{first.campaign} (A)", f"{second.campaign} (B)"


def measurement_note(comparison: Comparison) -> str:
    """Return the interval of the measurement if both sides have one team; it says less."""
    best = [group.teams[0].best for group in comparison.groups if len(group.teams) == 1]
    estimates = [method.verified for method in best if method and method.verified]
    if len(comparison.groups) != 2 or len(estimates) != 2:
        return ""
    first, second = estimates
    low, high = difference_low(first, second, 1), -difference_low(second, first, 1)
    bounds = f"{wording.signed(low)} to {wording.signed(high)}"
    differ = wording.difference(first.value - second.value)
    return (
        f"The two best verified methods differ by {differ} (95 % {bounds} from "
        "rows and seeds alone, taken as independent). This compares two methods, not two ways of "
        "doing research: another run of either campaign would find other methods."
    )


def unfair(first: CampaignExport, second: CampaignExport) -> list[str]:
    """Return what differs between the settings, in words; empty for a fair comparison."""
    notes = _task_notes(first, second)
    one, other = (_campaign(export) for export in (first, second))
    notes += [
        f"{key}: {_shown(one.get(key))} against {_shown(other.get(key))}"
        for key in CHANGES_A_RESULT
        if one.get(key) != other.get(key)
    ]
    for name, of in (
        ("research problem", lambda e: e.problem_of().name),
        ("AARs", lambda e: sum(len(team.aars) for team in teams_of(e))),
        ("teams", lambda e: len(teams_of(e))),
        ("price of a device hour", lambda e: e.budget.device_dollars_per_hour),
        ("budget of the campaign", lambda e: _shown(e.budget.limits.model_dump())),
        ("version", lambda e: _setting(e, "aarlab")),
        ("commit", lambda e: _setting(e, "commit")),
        ("prompts", lambda e: _setting(e, "prompt_hash")),
        ("prices", lambda e: _setting(e, "price_table")),
    ):
        if of(first) != of(second):
            notes.append(f"{name}: {of(first)} against {of(second)}")
    return notes


def _task_notes(first: CampaignExport, second: CampaignExport) -> list[str]:
    theirs = {task.name: task for task in second.tasks}
    notes = []
    for task in first.tasks:
        other = theirs.get(task.name)
        if other is None:
            continue
        if task.content_hash != other.content_hash:
            notes.append(f"task {task.name}: other rows or weak labels under the same name")
        if task.pair != other.pair:
            notes.append(f"task {task.name}: pair {task.pair} against {other.pair}")
    return notes


def _campaign(export: CampaignExport) -> Mapping[str, Any]:
    found = export.spec.get("campaign")
    return found if isinstance(found, dict) else {}


def _setting(export: CampaignExport, name: str) -> str:
    found = export.spec.get("settings")
    return str(found.get(name, "unknown")) if isinstance(found, dict) else "unknown"


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        kept = {k: v for k, v in value.items() if v is not None}
        return ", ".join(f"{k} {v}" for k, v in kept.items()) or "no limit"
    return str(value)


def write_arms(export: CampaignExport, out: Path) -> Comparison:
    """Write the arms of one campaign; raises BadInput where it has fewer than two."""
    comparison = compare_arms(campaign_view(export))
    if comparison is None:
        raise BadInput(f"campaign {export.campaign} has one arm: there is nothing to compare")
    _write(f"Arms of {export.campaign}", comparison, [prose.arms_note(comparison)], out)
    return comparison


def write_comparison(first: CampaignExport, second: CampaignExport, out: Path) -> list[str]:
    """Write page, Markdown and CSV under `out`; returns the notes on fairness."""
    comparison, notes = compare_campaigns(first, second), unfair(first, second)
    said = [prose.arms_note(comparison), measurement_note(comparison)]
    said += [f"Not like with like. {note}" for note in notes]
    said += [] if notes else ["No setting that changes a result differs."]
    names = " and ".join(group.name for group in comparison.groups)
    _write(f"{names} compared", comparison, [text for text in said if text], out)
    return notes


def teams_table(comparison: Comparison) -> Table:
    """Return a row per replicate, so that the few numbers behind a mean can be seen."""
    columns = (
        Column("Team"),
        Column("AARs", True),
        Column("Research time", True),
        Column("Submissions", True),
        Column("Verified", True),
        Column(f"Best verified {comparison.figure}", True),
        Column(f"Search {comparison.figure} at equal hours", True),
    )
    rows = tuple(
        Row(
            (
                Cell(f"{group.name}, replicate {team.team.replicate}", team.team.arm),
                Cell(str(len(team.team.aars))),
                Cell(wording.duration(team.team.hours * 3600)),
                Cell(wording.count(team.n_submissions)),
                Cell(wording.count(team.n_verified)),
                Cell(wording.interval(team.best.verified if team.best else None)),
                Cell(wording.plus_minus(team.at_equal_h)),
            )
        )
        for group in comparison.groups
        for team in group.teams
    )
    return Table("Every replicate", columns, rows)


def _write(title: str, comparison: Comparison, notes: list[str], out: Path) -> None:
    shown = [
        more_tables.groups(comparison),
        more_tables.differences(comparison),
        teams_table(comparison),
    ]
    markdown = [f"# {escape(title)}", *map(table_text, shown), *map(escape, notes)]
    contents = {
        "teams.csv": comparison_teams_csv(comparison),
        "differences.csv": comparison_differences_csv(comparison),
        "comparison.md": "\n\n".join(markdown) + "\n",
        "comparison.json": json.dumps(_summary(comparison, notes), indent=1) + "\n",
        "comparison.html": comparison_page(title, comparison, shown, notes),
    }
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            write_atomic(out / name, content)
    except OSError as error:
        raise BadInput(
            f"cannot write the comparison to {out}: {error.strerror}; choose another folder"
        ) from error


def _summary(comparison: Comparison, notes: list[str]) -> dict[str, Any]:
    return {
        "reference": comparison.reference,
        "equal_h": comparison.equal_h,
        "differences": {
            key: [found._asdict() for found in differences]
            for key, differences in comparison.differences.items()
        },
        "notes": notes,
    }
