"""Every built-in method by name."""

from aarlab.testbed.methods.method import Method, method_of_recipe
from aarlab.testbed.methods.registry import (
    FAMILIES,
    METHODS,
    REGISTRY,
    find_method,
    installed_folder,
)

__all__ = [
    "FAMILIES",
    "METHODS",
    "REGISTRY",
    "Method",
    "find_method",
    "installed_folder",
    "method_of_recipe",
]
