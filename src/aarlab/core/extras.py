"""Which optional packages are there, asked without importing them."""

from importlib.util import find_spec


def installed(package: str) -> bool:
    return find_spec(package) is not None
