"""Text from untrusted writers: JSON and YAML from a request, a person's file or a sandbox.

Covered: bytes that are not UTF-8, not JSON or not YAML; a byte-order mark; nesting that exhausts
the stack, here or in a later reader; duplicate keys, which two readers may read differently; NaN
and infinity; integers with more digits than Python converts; few bytes that expand to much memory
(lists in lists, YAML aliases); lone surrogates, which no file and no response can encode.
Not covered: what the value means, and JSON numbers that overflow to infinity (1e999): code that
uses a number must check it. Files of rows are read in `core/rows.py`.
"""

import codecs
import json
import math
import re
from typing import Any

import yaml

from aarlab.core.errors import BadInput

MAX_DEPTH = 100
MAX_CONTAINERS = 500_000
MAX_YAML_BYTES = 4 * 2**20
MAX_ALIASES = 100
SHOWN = 60
SAVE_AS_UTF8 = "save the file as UTF-8, e.g. iconv -f LATIN1 -t UTF-8 FILE > NEW"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_json(raw: bytes, what: str, max_containers: int = MAX_CONTAINERS) -> Any:
    """The value; raises BadInput that begins with `what` and holds no value of it."""
    n_containers = raw.count(b"[") + raw.count(b"{")
    if n_containers > max_containers:
        raise BadInput(f"{what}: over {max_containers:,} lists and objects")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refused)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise BadInput(f"{what}: nested over {MAX_DEPTH} deep") from None
    except UnicodeDecodeError as error:
        raise BadInput(f"{what}: {not_utf8(error)}") from None
    except UnicodeEncodeError:
        raise BadInput(f"{what}: a lone surrogate: send text as valid Unicode") from None
    except ValueError as error:
        raise BadInput(f"{what}: not JSON ({str(error)[:100]})") from None
    if n_containers > MAX_DEPTH and _is_deep(value):
        raise BadInput(f"{what}: nested over {MAX_DEPTH} deep")
    return value


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


def decoded(raw: bytes, what: str) -> str:
    """Decode UTF-8 text without a byte-order mark; raises BadInput naming `what`, line and byte."""
    if reason := no_text(raw):
        raise BadInput(f"{what}: {reason}")
    raw = raw.removeprefix(codecs.BOM_UTF8)
    try:
        return raw.decode()
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadInput(f"{what}, line {line}: {not_utf8(error)}; {SAVE_AS_UTF8}") from None


def no_text(raw: bytes) -> str | None:
    """Return why these bytes cannot be UTF-8 text at all; None if they may be."""
    if raw.startswith(_UTF16):
        return "UTF-16 text; save it as UTF-8 (iconv -f UTF-16 -t UTF-8 FILE > NEW)"
    if raw.startswith(b"\x1f\x8b"):
        return "compressed by gzip; its name must end in .gz"
    return None


def not_utf8(error: UnicodeDecodeError) -> str:
    """Describe the first invalid byte and its column in the line."""
    byte = error.object[error.start]
    column = error.start - error.object.rfind(b"\n", 0, error.start)
    return f"not UTF-8 (byte 0x{byte:02X} at column {column})"


def shown(value: object) -> str:
    """Return a short form of a foreign value for messages: one line of printable characters."""
    text = repr(value)
    return text if len(text) <= SHOWN else text[: SHOWN - 3] + "..."


def storable(text: str) -> str:
    """The text with a ? for each lone surrogate: a file and an answer can hold it."""
    return text.encode(errors="replace").decode()


def is_number(value: object) -> bool:
    """Return whether the value is a number that a float can hold; True and False are not."""
    try:
        return type(value) in (int, float) and math.isfinite(float(value))  # type: ignore[arg-type]
    except OverflowError:
        return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen = set[str]()
        for key, _ in pairs:
            if key in seen:
                raise ValueError(f"the key {key[:SHOWN]!a} is there twice")
            seen.add(key)
    return made


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [part for one in level for part in (one.values() if type(one) is dict else one)]
        level = [part for part in inner if type(part) in (dict, list)]
        if not level:
            return False
    return True


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
                    None, None, f"the key {key.value[:SHOWN]!a} is there twice", key.start_mark
                )
            seen.add((key.tag, key.value))
        return node

    def construct_yaml_float(self, node: Any) -> float:
        value: float = super().construct_yaml_float(node)
        if not math.isfinite(value):
            raise yaml.constructor.ConstructorError(
                None, None, f"{node.value[:SHOWN]} is no number", node.start_mark
            )
        return value


_Yaml.add_constructor("tag:yaml.org,2002:float", _Yaml.construct_yaml_float)
