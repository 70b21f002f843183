"""Read an exported campaign: the report's only input."""

import json
from pathlib import Path

from pydantic import ValidationError

from aarlab.core.errors import BadInput, Damaged
from aarlab.core.ideas import Idea
from aarlab.core.wire import CampaignExport

JUDGED = "ideas.json"
SHOWN_PROBLEMS = 3
REPAIR = "write it again with: aarlab campaign export"


def load_export(path: Path) -> CampaignExport:
    """Raise BadInput (no file, wrong fields) or Damaged (not JSON, parts contradict each other).

    Every message names the file, and the field where there is one.
    """
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise BadInput(f"cannot read export {path}: {error.strerror}; {REPAIR}") from error
    try:
        export = CampaignExport.model_validate_json(raw)
    except ValidationError as error:
        raise _explained(path, error) from error
    _check_references(path, export)
    return _with_judged(export, path.parent / JUDGED)


def _with_judged(export: CampaignExport, path: Path) -> CampaignExport:
    """Replace the keywords' families by a language model's (`aarlab campaign classify`)."""
    if not path.exists():
        return export
    try:
        judged: dict[str, dict[str, str]] = json.loads(path.read_text(encoding="utf-8"))
        ideas = [
            Idea.model_validate(
                {
                    **idea.model_dump(),
                    "family": judged[idea.snapshot]["family"],
                    "classifier": judged[idea.snapshot]["by"],
                    "evidence": [],
                    "scores": {},
                }
            )
            if idea.snapshot in judged
            else idea
            for idea in export.ideas
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise Damaged(f"{path} is not what `aarlab campaign classify` wrote: remove it") from error
    return export.model_copy(update={"ideas": ideas})


def _explained(path: Path, error: ValidationError) -> BadInput | Damaged:
    problems = error.errors(include_url=False, include_input=False)
    if problems[0]["type"] == "json_invalid":
        return Damaged(f"{path} is not JSON ({problems[0]['msg']}): cut off or changed; {REPAIR}")
    shown = "; ".join(
        f"field {'.'.join(map(str, problem['loc']))}: {problem['msg']}"
        for problem in problems[:SHOWN_PROBLEMS]
    )
    more = f"; and {len(problems) - SHOWN_PROBLEMS} more" if len(problems) > SHOWN_PROBLEMS else ""
    return BadInput(f"{path} is not a campaign export: {shown}{more}; {REPAIR}")


def _check_references(path: Path, export: CampaignExport) -> None:
    """Check that names resolve, or a score could be shown under the wrong researcher."""
    aars = {aar.name for aar in export.aars}
    tasks = {task.name for task in export.tasks}
    seen: set[str] = set()
    for index, submission in enumerate(export.submissions):
        where = f"{path}: field submissions.{index}"
        if submission.aar not in aars:
            raise Damaged(f"{where}.aar: no AAR {submission.aar!r} in the export; {REPAIR}")
        if submission.task not in tasks:
            raise Damaged(f"{where}.task: no task {submission.task!r} in the export; {REPAIR}")
        if submission.id in seen:
            raise Damaged(f"{where}.id: {submission.id!r} is given twice; {REPAIR}")
        seen.add(submission.id)
    for index, verification in enumerate(export.verifications):
        if verification.aar not in aars:
            raise Damaged(
                f"{path}: field verifications.{index}.aar: no AAR {verification.aar!r} in the "
                f"export; {REPAIR}"
            )
