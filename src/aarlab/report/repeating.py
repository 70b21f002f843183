"""What another lab needs to repeat the campaign: read from the frozen spec, nothing remembered."""

from collections.abc import Mapping
from typing import Any

from aarlab.report.transfer import held_out_tasks
from aarlab.report.view import CampaignView

UNKNOWN = "not recorded in the export"


def repeat_notes(view: CampaignView) -> list[tuple[str, str]]:
    """Heading and text; a part that the export does not hold says so."""
    campaign = _part(view.export.spec, "campaign")
    settings = _part(view.export.spec, "settings")
    return [
        ("Researchers", _researchers(view)),
        ("Language models", _models(campaign)),
        ("Tasks", _tasks(view)),
        ("Budget", _budget(view, campaign)),
        ("Seeds", _seeds(view, campaign)),
        ("Prices", _prices(view, settings)),
        ("Prompts", _prompts(settings)),
        ("Software", _software(settings)),
        ("Steering", _steering(view)),
    ]


def _part(spec: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = spec.get(name)
    return found if isinstance(found, dict) else {}


def _researchers(view: CampaignView) -> str:
    arms: dict[str, list[str]] = {}
    for aar in view.aars:
        arms.setdefault(aar.arm, []).append(aar.researcher)
    said = [f"{arm}: {len(kinds)} ({', '.join(sorted(set(kinds)))})" for arm, kinds in arms.items()]
    return "AARs by arm: " + "; ".join(said) + "." if said else "No AAR."


def _models(campaign: Mapping[str, Any]) -> str:
    listed = campaign.get("aars")
    aars = [aar for aar in listed if isinstance(aar, dict)] if isinstance(listed, list) else []
    named = [_part(aar, "language") for aar in aars] + [_part(campaign, "language")]
    models = sorted({str(language["model"]) for language in named if "model" in language})
    return ", ".join(models) if models else "None: no language model did research here."


def _tasks(view: CampaignView) -> str:
    hidden = held_out_tasks(view.export)
    said = [
        f"{task.name}{' (held out)' if task.name in hidden else ''}, pair {task.pair}, content "
        f"{task.content_hash[:12]}, {_revision(task.settings)}"
        for task in view.export.tasks
    ]
    return "; ".join(said) + "." if said else UNKNOWN


def _revision(settings: Mapping[str, Any]) -> str:
    found = [
        f"{key} {settings[key]}" for key in ("weak_revision", "strong_revision") if key in settings
    ]
    layers = f"weak layer {settings['weak_layer']}" if "weak_layer" in settings else ""
    student = _part(settings, "student")
    layers += f", student layer {student['layer']}" if "layer" in student else ""
    return ", ".join([*found, layers.strip(", ")]).strip(", ") or "model revisions not recorded"


def _budget(view: CampaignView, campaign: Mapping[str, Any]) -> str:
    limits = _part(campaign, "limits")
    each = ", ".join(f"{v:g} {k}" for k, v in limits.items() if isinstance(v, int | float))
    whole = ", ".join(
        f"{v:g} {k}" for k, v in view.export.budget.limits.model_dump().items() if v is not None
    )
    return f"Per AAR: {each or UNKNOWN}. All together: {whole or 'no limit'}."


def _seeds(view: CampaignView, campaign: Mapping[str, Any]) -> str:
    teacher = ", ".join(map(str, view.task.teacher_seeds)) if view.task else ""
    listed = campaign.get("aars")
    own = sorted(
        {a["seed"] for a in listed if isinstance(a, dict) and "seed" in a}
        if isinstance(listed, list)
        else set()
    )
    return (
        f"Weak teachers {teacher or UNKNOWN}; a submission has "
        f"{campaign.get('seeds_per_submission', UNKNOWN)} seeds; researchers "
        f"{', '.join(map(str, own)) or UNKNOWN}; seeds of verification were drawn by the platform "
        "and stand beside each result in the export."
    )


def _prices(view: CampaignView, settings: Mapping[str, Any]) -> str:
    dated = settings.get("prices_dated") or settings.get("prices")
    calls = f"Model prices of {dated}." if dated else f"Date of model prices: {UNKNOWN}."
    rate = view.export.budget.device_dollars_per_hour
    return f"{calls} A device hour counts ${rate:g}."


def _prompts(settings: Mapping[str, Any]) -> str:
    found = settings.get("prompts_hash") or settings.get("prompt_hash")
    return f"Hash {found}." if found else f"Hash of the prompts: {UNKNOWN}."


def _software(settings: Mapping[str, Any]) -> str:
    names = ("aarlab", "commit", "python", "torch", "numpy", "packages_hash", "machine", "cores")
    said = [f"{name} {str(settings[name])[:40]}" for name in names if name in settings]
    return ", ".join(said) + "." if said else UNKNOWN


def _steering(view: CampaignView) -> str:
    acts = [f"{c.action} of {c.aar or 'the campaign'} by {c.by}" for c in view.export.controls]
    return "; ".join(acts) + "." if acts else "No person acted on a running AAR."
