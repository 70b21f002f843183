"""What type checkers see of `__init__.py`, whose names are imported on first use."""

from aarlab.api import (
    MethodLike,
    Task,
    open_task,
    run_campaign,
    score_method,
    score_methods,
    task_names,
)
from aarlab.campaign.spec import AarSpec, ArmSpec, CampaignSpec, VerifySpec, load_spec
from aarlab.core.errors import AarlabError, BadInput, MethodFailed, NotFound
from aarlab.core.headline import verdict_of
from aarlab.core.pgr import Gap, Outcomes, pgr
from aarlab.core.types import Example
from aarlab.core.wire import CampaignExport, Interval, LeaderboardEntry, Limits, TaskInfo
from aarlab.problems.base import Problem
from aarlab.report.load import load_export
from aarlab.report.write import write_report
from aarlab.testbed.methods import METHODS, Method, find_method
from aarlab.testbed.recipes.recipe import Recipe
from aarlab.testbed.recipes.recipe import mutate as mutate_recipe
from aarlab.testbed.recipes.recipe import sample as sample_recipe
from aarlab.testbed.running.contract import Fit, Predictor
from aarlab.testbed.running.panel import PanelRow as MethodScore
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask

__version__: str

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
