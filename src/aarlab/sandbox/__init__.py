"""Runs code that is not trusted: isolated by bubblewrap, or, stamped so, as a plain process."""

from aarlab.sandbox.probe import probe
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, copy_in, copy_out, copy_out_tree, prepare_workspace

__all__ = [
    "Finished",
    "SandboxLimits",
    "SandboxSpec",
    "aar_uid",
    "copy_in",
    "copy_out",
    "copy_out_tree",
    "prepare_workspace",
    "probe",
    "run",
]
