"""aarlab: automated alignment research with scores that can be trusted.

The names in `__all__` are the public API. Each is imported when it is first used, so
`import aarlab` loads neither numpy nor torch. Other modules may change between releases.
"""

from importlib import import_module

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "AarSpec",
    "AarlabError",
    "ArmSpec",
    "BadInput",
    "CampaignExport",
    "CampaignSpec",
    "Example",
    "Fit",
    "Gap",
    "HeadOptions",
    "Interval",
    "LeaderboardEntry",
    "Limits",
    "Method",
    "MethodFailed",
    "MethodLike",
    "MethodScore",
    "NotFound",
    "Outcomes",
    "Predictor",
    "Problem",
    "Recipe",
    "Student",
    "StudentFactory",
    "Task",
    "TaskInfo",
    "TrainTask",
    "VerifySpec",
    "__version__",
    "find_method",
    "load_export",
    "load_spec",
    "mutate_recipe",
    "open_task",
    "pgr",
    "run_campaign",
    "sample_recipe",
    "score_method",
    "score_methods",
    "task_names",
    "verdict_of",
    "write_report",
]

# Where each public name is defined: "module", or "module:name" where it has another name there.
# Type checkers read `__init__.pyi` instead.
_HOMES = {
    "METHODS": "aarlab.testbed.methods",
    "AarSpec": "aarlab.campaign.spec",
    "AarlabError": "aarlab.core.errors",
    "ArmSpec": "aarlab.campaign.spec",
    "BadInput": "aarlab.core.errors",
    "CampaignExport": "aarlab.core.wire",
    "CampaignSpec": "aarlab.campaign.spec",
    "Example": "aarlab.core.types",
    "Fit": "aarlab.testbed.running.contract",
    "Gap": "aarlab.core.pgr",
    "HeadOptions": "aarlab.testbed.students.options",
    "Interval": "aarlab.core.wire",
    "LeaderboardEntry": "aarlab.core.wire",
    "Limits": "aarlab.core.wire",
    "Method": "aarlab.testbed.methods",
    "MethodFailed": "aarlab.core.errors",
    "MethodLike": "aarlab.api",
    "MethodScore": "aarlab.testbed.running.panel:PanelRow",
    "NotFound": "aarlab.core.errors",
    "Outcomes": "aarlab.core.pgr",
    "Predictor": "aarlab.testbed.running.contract",
    "Problem": "aarlab.problems.base",
    "Recipe": "aarlab.testbed.recipes.recipe",
    "Student": "aarlab.testbed.students.student",
    "StudentFactory": "aarlab.testbed.students.student",
    "Task": "aarlab.api",
    "TaskInfo": "aarlab.core.wire",
    "TrainTask": "aarlab.testbed.tasks.train_task",
    "VerifySpec": "aarlab.campaign.spec",
    "find_method": "aarlab.testbed.methods",
    "load_export": "aarlab.report.load",
    "load_spec": "aarlab.campaign.spec",
    "mutate_recipe": "aarlab.testbed.recipes.recipe:mutate",
    "open_task": "aarlab.api",
    "pgr": "aarlab.core.pgr",
    "run_campaign": "aarlab.api",
    "sample_recipe": "aarlab.testbed.recipes.recipe:sample",
    "score_method": "aarlab.api",
    "score_methods": "aarlab.api",
    "task_names": "aarlab.api",
    "verdict_of": "aarlab.core.headline",
    "write_report": "aarlab.report.write",
}


def __getattr__(name: str) -> object:
    """Import a public name on first use.

    Raises MissingExtra if it needs an extra that is not installed, AttributeError for other names.
    """
    if name not in _HOMES:
        raise AttributeError(f"module 'aarlab' has no attribute {name!r}")
    module, _, there = _HOMES[name].partition(":")
    try:
        found: object = getattr(import_module(module), there or name)
    except ModuleNotFoundError as error:
        from aarlab.core.errors import MissingExtra
        from aarlab.core.extras import extra_of, install_command

        if (extra := extra_of(error.name or "")) is None:
            raise
        raise MissingExtra(
            f"aarlab.{name} needs {error.name}, not installed here; run: {install_command(extra)}"
        ) from error
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
