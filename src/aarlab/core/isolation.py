"""Kinds of sandbox that hold code while it runs, and which stamp of a score is isolated."""

from typing import Literal, get_args

SandboxKind = Literal["bubblewrap", "process"]
Isolation = Literal["bubblewrap", "bubblewrap+device", "process", "none"]

SANDBOX_KINDS: tuple[SandboxKind, ...] = get_args(SandboxKind)
DEFAULT_SANDBOX: SandboxKind = "bubblewrap"
WITH_DEVICE: Isolation = "bubblewrap+device"


def is_isolated(isolation: Isolation) -> bool:
    """Return whether code under this isolation is kept from everything outside its sandbox."""
    return isolation in ("bubblewrap", WITH_DEVICE)


def isolation_words(isolation: Isolation) -> str:
    """Return the stamp of a score in words."""
    if isolation == WITH_DEVICE:
        return "isolated, with a device"
    return "isolated" if is_isolated(isolation) else "not isolated"
