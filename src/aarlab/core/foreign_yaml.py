"""YAML from untrusted writers, under the rules of `core/foreign.py`.

Covered: what `foreign` covers; besides, aliases that expand to much memory, and duplicate keys.
Not covered: what the value means.
"""

import math
import re
from typing import Any

import yaml

from aarlab.core.errors import BadInput
from aarlab.core.foreign import MAX_DEPTH, SHOWN, decoded

MAX_YAML_BYTES = 4 * 2**20
MAX_ALIASES = 100


def read_yaml(raw: bytes, what: str) -> Any:
    """Read the value of a YAML document.

    Raises BadInput. Its message begins with `what` and names the line where it is known.
    """
    text = decoded(raw, what)
    if len(raw) > MAX_YAML_BYTES:
        raise BadInput(f"{what}: over {MAX_YAML_BYTES >> 20} MiB")
    try:
        loader = _Yaml(text)
        try:
            return loader.get_single_data()
        finally:
            loader.dispose()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line = f", line {mark.line + 1}" if mark else ""
        raise BadInput(f"{what}{line}: not YAML ({error.problem or error.context})") from error
    except (yaml.YAMLError, ValueError) as error:  # invalid dates and numbers
        raise BadInput(f"{what}: not YAML ({str(error)[:200]})") from error
    except RecursionError:
        raise BadInput(f"{what}: nested too deep") from None


class _Yaml(yaml.SafeLoader):
    """Safe YAML loader that rejects duplicate keys and limits what aliases expand to."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.n_aliases = self.depth = 0

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            self.n_aliases += 1
            if self.n_aliases > MAX_ALIASES:
                raise yaml.YAMLError(f"over {MAX_ALIASES} aliases")
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"nested over {MAX_DEPTH} deep")
        try:
            return super().compose_node(parent, index)
        finally:
            self.depth -= 1

    def compose_mapping_node(self, anchor: Any) -> Any:
        node = super().compose_mapping_node(anchor)
        seen = set[tuple[str, str]]()
        for key, _ in node.value:  # before a merge key adds keys that may be overridden
            if not isinstance(key, yaml.ScalarNode):
                continue
            if (key.tag, key.value) in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key {key.value[:SHOWN]!a} is given twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node

    def construct_yaml_float(self, node: Any) -> float:
        value: float = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value[:SHOWN]} is not a number", node.start_mark
            )
        return value


# YAML 1.2 and people write 1e-3 for a number; YAML 1.1 wants 1.0e-3.
_Yaml.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"^[-+]?\d+(\.\d*)?[eE][-+]?\d+$"), list("-+0123456789")
)
_Yaml.add_constructor("tag:yaml.org,2002:float", _Yaml.construct_yaml_float)
