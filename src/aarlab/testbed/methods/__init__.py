"""Every built-in method by name."""

from aarlab.testbed.methods.method import Method, method_of_recipe
from aarlab.testbed.methods.registry import FAMILIES, METHODS, find_method

__all__ = ["FAMILIES", "METHODS", "Method", "find_method", "method_of_recipe"]
