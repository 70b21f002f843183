"""What another lab needs to repeat the campaign, read from the frozen spec alone."""

from collections.abc import Mapping
from typing import Any

from aarlab.core.showing import NOUNS, limits_text, number_of
from aarlab.report.transfer import held_out_tasks
from aarlab.report.view import CampaignView, task_reference

PRICED = {
    "input": "in",
    "output": "out",
    "cache_read": "from cache",
    "cache_write": "into cache",
    "cache_write_1h": "into cache for an hour",
}
UNKNOWN = "unknown: this export is from a version of aarlab that did not record it"


def repeat_notes(view: CampaignView) -> list[tuple[str, str]]:
    """Return heading and text; a part that the export does not hold says so."""
    campaign = _part(view.export.spec, "campaign")
    settings = _part(view.export.spec, "settings")
    models = ", ".join(_named_models(campaign))
    return [
        ("Researchers", _researchers(view)),
        ("Language models", models or "No language model did research here."),
        ("Tasks", _tasks(view)),
        ("Budget", _budget(view, campaign)),
        ("Seeds", _seeds(view, campaign)),
        ("Prices", _prices(view, campaign, settings)),
        ("Prompts", _prompts(campaign, settings)),
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
    if len(arms) < 2:
        kinds = sorted({aar.researcher for aar in view.aars})
        of = f" ({', '.join(kinds)})" if kinds else ""
        return f"{number_of(len(view.aars), 'AAR')}{of}."
    said = [f"{arm}: {len(kinds)} ({', '.join(sorted(set(kinds)))})" for arm, kinds in arms.items()]
    return "AARs by arm: " + "; ".join(said) + "."


def _named_models(campaign: Mapping[str, Any]) -> list[str]:
    listed = campaign.get("aars")
    aars = [aar for aar in listed if isinstance(aar, dict)] if isinstance(listed, list) else []
    named = [_part(aar, "language") for aar in aars] + [_part(campaign, "language")]
    return sorted({str(language["model"]) for language in named if "model" in language})


def _tasks(view: CampaignView) -> str:
    hidden = held_out_tasks(view.export)
    said = [
        f"{task_reference(view.export, task)}{' (held out)' if task.name in hidden else ''}, pair "
        f"{task.pair}{_layers(task.settings)}"
        for task in view.export.tasks
    ]
    return "; ".join(said) + "." if said else UNKNOWN


def _layers(settings: Mapping[str, Any]) -> str:
    weak, student = settings.get("weak_layer"), _part(settings, "student").get("layer")
    said = {"weak layer": weak, "student layer": student}
    return "".join(f", {name} {layer}" for name, layer in said.items() if layer is not None)


def _budget(view: CampaignView, campaign: Mapping[str, Any]) -> str:
    limits = _part(campaign, "limits")
    named = {k: v for k, v in limits.items() if k in NOUNS and isinstance(v, int | float)}
    each, whole = limits_text(named), limits_text(view.export.budget.limits.model_dump())
    none = "no limit" if "limits" in campaign else UNKNOWN
    return f"Per AAR: {each or none}. All together: {whole or 'no limit'}."


def _seeds(view: CampaignView, campaign: Mapping[str, Any]) -> str:
    teacher = ", ".join(map(str, view.task.teacher_seeds)) if view.task else ""
    listed = campaign.get("aars")
    own = sorted(
        {a["seed"] for a in listed if isinstance(a, dict) and "seed" in a}
        if isinstance(listed, list)
        else set()
    )
    teachers = f"Weak teachers {teacher or UNKNOWN}; a" if view.problem.weak_labels else "A"
    return (
        f"{teachers} submission has "
        f"{campaign.get('seeds_per_submission', UNKNOWN)} seeds; seeds of the "
        f"researchers: {', '.join(map(str, own)) or UNKNOWN}; those of verification were drawn by "
        "the platform and are given with each result in the export."
    )


def _prices(view: CampaignView, campaign: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    table = settings.get("price_table")
    none = (
        f"Price table {UNKNOWN}."
        if _named_models(campaign)
        else "No language model did research, so none is priced."
    )
    calls = f"Price table {table}." if table else none
    alike: dict[str, list[str]] = {}
    for model, price in _part(settings, "prices").items():
        if isinstance(price, dict):
            alike.setdefault(_price(price), []).append(model)
    calls += "".join(f" {', '.join(models)}: {price}." for price, models in alike.items())
    rate = view.export.budget.device_dollars_per_hour
    return f"{calls} A device hour counts ${rate:g}."


def _price(price: Mapping[str, Any]) -> str:
    """Return the figures of one model in words; a figure of no known name keeps its own."""
    shown = [
        f"${amount:g} {PRICED.get(kind, kind)}"
        for kind, amount in price.items()
        if isinstance(amount, int | float)
    ]
    dearer = ", more for long calls" if price.get("tiers") else ""
    return f"per million tokens {', '.join(shown)}{dearer} ({price.get('dated', 'no date')})"


def _prompts(campaign: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    found = settings.get("prompt_hash")
    none = (
        f"Hash {UNKNOWN}."
        if _named_models(campaign)
        else "No language model did research, so there are no prompts."
    )
    return f"Hash {found}." if found else none


def _software(settings: Mapping[str, Any]) -> str:
    names = ("aarlab", "commit", "python", "torch", "numpy", "packages_hash", "machine", "cores")
    said = [f"{name} {str(settings[name])[:40]}" for name in names if name in settings]
    return ", ".join(said) + "." if said else UNKNOWN


def _steering(view: CampaignView) -> str:
    acts = [f"{c.action} of {c.aar or 'the campaign'} by {c.by}" for c in view.export.controls]
    return "; ".join(acts) + "." if acts else "No person acted on a running AAR."
