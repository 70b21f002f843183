"""Text from untrusted writers: JSON from a request, a person's file or a sandbox.

Covered: bytes that are not UTF-8 or not JSON; a byte-order mark; nesting that exhausts
the stack, here or in a later reader; duplicate keys, which two readers may read differently; NaN
and infinity; integers with more digits than Python converts; few bytes that expand to much memory
(lists in lists); lone surrogates, which no file and no response can encode.
Not covered: what the value means, and JSON numbers that overflow to infinity (1e999): code that
uses a number must check it. YAML is read in `core/foreign_yaml.py`, files of rows in
`core/rows.py`.
"""

import codecs
import json
import math
import re
from typing import Any

from aarlab.core.errors import BadInput

MAX_DEPTH = 100
MAX_CONTAINERS = 500_000
SHOWN = 60
SAVE_AS_UTF8 = "save the file as UTF-8, e.g. iconv -f LATIN1 -t UTF-8 FILE > NEW"
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)


def read_json(raw: bytes, what: str, max_containers: int = MAX_CONTAINERS) -> Any:
    """Return the value.

    Raises BadInput that begins with `what` and does not hold any part of the value.
    """
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


def decoded(raw: bytes, what: str) -> str:
    """Decode UTF-8 text without a byte-order mark.

    Raises BadInput naming `what`, line and byte.
    """
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
    """Return the text with a ? for each lone surrogate, so that files and answers can hold it."""
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
                raise ValueError(f"the key {key[:SHOWN]!a} is given twice")
            seen.add(key)
    return made


def _refused(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH):
        inner = [part for one in level for part in (one.values() if type(one) is dict else one)]
        level = [part for part in inner if type(part) in (dict, list)]
        if not level:
            return False
    return True
