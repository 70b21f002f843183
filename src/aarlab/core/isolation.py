"""Kinds of sandbox that hold code while it runs, and which stamp of a score is isolated."""

from typing import Literal, get_args

SandboxKind = Literal["bubblewrap", "process"]
Isolation = Literal["bubblewrap", "process", "none"]

SANDBOX_KINDS: tuple[SandboxKind, ...] = get_args(SandboxKind)
DEFAULT_SANDBOX: SandboxKind = "bubblewrap"


def is_isolated(isolation: Isolation) -> bool:
    """Return whether code under this isolation is kept from everything outside its sandbox."""
    return isolation == "bubblewrap"


def isolation_words(isolation: Isolation) -> str:
    """Return the stamp of a score in words."""
    return "isolated" if is_isolated(isolation) else "not isolated"
