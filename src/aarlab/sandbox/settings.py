"""The environment of sandboxed commands; only this module here reads the environment itself."""

import os
import re
from typing import NamedTuple

# By which instructions the numeric libraries compute, and how a model computes. Others give other
# last bits, and a run in a sandbox is compared to the bit with the same run outside.
_ARITHMETIC = (
    "OPENBLAS_CORETYPE",
    "OPENBLAS_L2_SIZE",
    "MKL_CBWR",
    "MKL_ENABLE_INSTRUCTIONS",
    "NPY_DISABLE_CPU_FEATURES",
    "NPY_ENABLE_CPU_FEATURES",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "AARLAB_DTYPE",
    "AARLAB_BATCH_TOKENS",
    "AARLAB_TRAIN_TOKENS",
    "AARLAB_CHECKPOINT",
    "AARLAB_COMPILE",
)
_PLAIN = re.compile(r"[A-Za-z0-9_, +-]{1,200}")


def arithmetic() -> dict[str, str]:
    """Return what this process's environment says about how numbers are computed.

    Nothing else of the environment enters a sandbox. Values that are more than names and numbers
    are left out.
    """
    found = {name: os.environ.get(name, "") for name in _ARITHMETIC}
    return {name: value for name, value in found.items() if _PLAIN.fullmatch(value)}


class Visible(NamedTuple):
    """Which devices a process may use, by the variables of their makers; None: all."""

    cuda: str | None
    rocr: str | None = None
    hip: str | None = None


VISIBLE = Visible("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES")


def visible_devices() -> Visible:
    """Return which devices this process may use."""
    return Visible(*(os.environ.get(name or "") for name in VISIBLE))
