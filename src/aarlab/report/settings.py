"""The environment of experiment trackers; only this module here reads or changes it."""

import os

QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "WANDB_ERROR_REPORTING": "false",
    "WANDB_SILENT": "true",
}


def without_telemetry() -> None:
    """Turn off what the trackers' libraries send to their makers, unless a variable says else."""
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
