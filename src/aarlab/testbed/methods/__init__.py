"""Every built-in method by name."""

from aarlab.testbed.methods.registry import METHODS, Method, find_method, method_of_recipe

__all__ = ["METHODS", "Method", "find_method", "method_of_recipe"]
