"""JSON whose writer is not trusted: a request, a file that a sandbox left, a file of a snapshot.

Covered: bytes that are not UTF-8 or not JSON; nesting that exhausts the stack, here or in a later
reader; a key that is there twice, which two readers read differently; NaN and infinity; integers
with more digits than Python converts; few bytes that take much memory (lists in lists); lone
surrogates, which no file and no answer can carry.
Not covered: what the value means, and numbers that overflow to infinity (1e999): a model's part.
"""

import json
import re
from typing import Any

from aarlab.core.errors import BadInput

MAX_DEPTH = 100
MAX_CONTAINERS = 500_000
_SURROGATE = re.compile(rb"\\u[dD][89a-fA-F]")


def read_json(raw: bytes, what: str) -> Any:
    """The value; raises BadInput that begins with `what` and holds no value of it."""
    n_containers = raw.count(b"[") + raw.count(b"{")
    if n_containers > MAX_CONTAINERS:
        raise BadInput(f"{what}: over {MAX_CONTAINERS:,} lists and objects")
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_once, parse_constant=_refused)
        if _SURROGATE.search(raw):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError:
        raise BadInput(f"{what}: nested over {MAX_DEPTH} deep") from None
    except UnicodeDecodeError:
        raise BadInput(f"{what}: not UTF-8") from None
    except UnicodeEncodeError:
        raise BadInput(f"{what}: a lone surrogate: send text as valid Unicode") from None
    except ValueError as error:
        raise BadInput(f"{what}: not JSON ({str(error)[:100]})") from None
    if n_containers > MAX_DEPTH and _is_deep(value):
        raise BadInput(f"{what}: nested over {MAX_DEPTH} deep")
    return value


def storable(text: str) -> str:
    """The text with a ? for each lone surrogate: a file and an answer can hold it."""
    return text.encode(errors="replace").decode()


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a key is there twice")
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
