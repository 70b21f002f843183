"""Counts what a snapshot carries besides its logic: numbers, packed and long texts, data, digests.

A snapshot is code. Weights of a head that was trained elsewhere, or a table of answers, are
knowledge that the verified run did not make. The counts are shown for every snapshot.

Covered: numbers in code, comments, docstrings, recipes and text files; unbroken runs of letters as
base64, hex or escapes have them, and bytes; string literals as long as a template; binary files;
tables keyed by digests; digests of a row's prompt or answers.
Not covered: numbers spelled as words, packed text cut into short words, a head of
fewer bits than it has weights; all of these need code that stands out when a person reads it.
"""

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.core.wire import Severity

HEAD = 576  # width of the smallest embedded student: a shipped head has a weight for each
PACKED = HEAD * 4 // 3  # characters of base64 that hold a byte for each
LONG = 200  # characters of a string literal that may be a template
LONG_TOGETHER = 4000  # characters of all these; about forty examples of a row each
KEYS = 20  # entries of a table that could be keyed by digests
HEX_SHARE = 0.8
MAX_NAMED = 5

_NUMBER = re.compile(r"(?<![\w.])(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)")
_PACKED = re.compile(r"(?:[A-Za-z0-9+/=_\-\\]|[^\x00-\x7f]){64,}")
_RUN = re.compile(r"\S{64,}")
_HEX = re.compile(r"[0-9a-fA-F]{6,}")
_DIGITS_A_NUMBER = 20  # a longer one is several, packed
_DIGESTS = frozenset({"hashlib", "hmac", "zlib", "binascii"})
_TEXTS = frozenset({"prompt", "answers"})


class Contents(NamedTuple):
    """What a snapshot carries.

    `packed` counts characters in unbroken runs, `long_texts` string literals of LONG characters or
    more and `text` all their characters, `data` the bytes of binary files. `digests` names places.
    """

    numbers: int
    packed: int
    long_texts: int
    text: int
    files: int
    data: int
    digests: tuple[str, ...]


def contents(files: Mapping[str, bytes]) -> Contents:
    """Count over all files of a snapshot; no content makes it fail."""
    numbers = packed = data = n_data = 0
    texts: list[int] = []
    digests: list[str] = []
    for path, content in files.items():
        code = path.endswith(".py")
        n_data += not code and PurePosixPath(path).name != "recipe.json"
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            data += len(content)
            continue
        if "\0" in text:
            data += len(content)
            continue
        numbers += sum(map(_size, _NUMBER.findall(text)))
        runs = sum(map(len, _PACKED.findall(text)))
        if code and (tree := _parsed(content)) is not None:
            runs = max(runs, _in_literals(tree))
            texts += _long_texts(tree)
            digests += [f"{path}{found}" for found in _digests(tree)]
        elif not code:
            digests += _hex_keys(path, text)
            texts += [] if PurePosixPath(path).name == "recipe.json" else [len(text)]
        packed += runs
    return Contents(
        numbers, packed, len(texts), sum(texts), n_data, data, tuple(dict.fromkeys(digests))
    )


def judge_contents(found: Contents) -> tuple[Severity, str]:
    """Return how grave it is and one line of all counts.

    Above a cap it is suspect, in a blind method too: shipped weights were aligned with the basis of
    a run through log-likelihoods (benchmarks/blind.md). Digests of texts are suspect in any case.
    """
    counts = (
        f"{found.numbers:,} numbers, {found.packed:,} characters packed, {found.long_texts:,} long "
        f"texts of {found.text:,} characters, {found.files:,} data files, {found.data:,} bytes of "
        "binary data"
    )
    if found.digests:
        named = "; ".join(found.digests[:MAX_NAMED])
        return "suspect", f"digests of rows' texts: {named}; {counts}"
    over = [
        what
        for what, is_over in (
            (f"numbers (a head has {HEAD})", found.numbers >= HEAD),
            (f"packed characters ({PACKED} hold a head)", found.packed >= PACKED),
            (f"long texts ({LONG_TOGETHER:,} characters)", found.text >= LONG_TOGETHER),
            (f"binary data ({HEAD} bytes)", found.data >= HEAD),
        )
        if is_over
    ]
    if not over:
        return "clear", counts
    return "suspect", f"more than logic needs of {', '.join(over)}: {counts}"


def _size(number: str) -> int:
    return -(-len(number) // _DIGITS_A_NUMBER)


def _parsed(content: bytes) -> ast.Module | None:
    try:
        return parse_python(content)
    except UNPARSABLE:
        return None  # the static review says so


def _in_literals(tree: ast.Module) -> int:
    """Count characters in unbroken runs of strings, whatever letters they have, and all bytes."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    packed = sum(len(value) for value in values if isinstance(value, bytes))
    runs = (_RUN.findall(value) for value in values if isinstance(value, str))
    return packed * 4 // 3 + sum(len(run) for found in runs for run in found)


def _long_texts(tree: ast.Module) -> list[int]:
    """Return the lengths of long string literals; docstrings are no templates."""
    nodes = list(ast.walk(tree))
    told = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    sizes = [
        len(node.value)
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and id(node) not in told
    ]
    return [size for size in sizes if size >= LONG]


def _digests(tree: ast.Module) -> Iterator[str]:
    """Yield tables keyed by digests, and digests in a file that reads texts of rows."""
    nodes = list(ast.walk(tree))
    reads = any(isinstance(n, ast.Attribute) and n.attr in _TEXTS for n in nodes)
    for node in nodes:
        line = f":{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Dict | ast.Set | ast.List | ast.Tuple):
            keys = node.keys if isinstance(node, ast.Dict) else node.elts
            values = [key.value for key in keys if isinstance(key, ast.Constant)]
            if _are_digests(values):
                yield f"{line}: a table of {len(values)} digests"
        if not reads:
            continue
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            for module in modules:
                if module.split(".")[0] in _DIGESTS:
                    yield f"{line}: imports {module} and reads texts"
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Name)
            and node.func.id == "hash"
        ):
            yield f"{line}: hash() and reads texts"


def _hex_keys(path: str, text: str) -> list[str]:
    """A text file, as a recipe or a table beside the code, whose words are mostly digests."""
    words = re.findall(r"\w+", text)
    found = [word for word in words if _is_hex(word)]
    if len(found) > KEYS and len(found) >= HEX_SHARE * len(words) / 2:
        return [f"{path}: a table of {len(found)} digests"]
    return []


def _are_digests(values: Sequence[object]) -> bool:
    found = sum(_is_digest(value) for value in values)
    return found > KEYS and found >= HEX_SHARE * len(values)


def _is_digest(value: object) -> bool:
    if isinstance(value, bool):
        return False
    if isinstance(value, int):
        return value >= 2**24
    if isinstance(value, bytes):
        return 4 <= len(value) <= 64 and not value.isascii()
    return isinstance(value, str) and _is_hex(value)


def _is_hex(word: str) -> bool:
    """With a digit and a letter: neither a plain number nor a word."""
    if not _HEX.fullmatch(word):
        return False
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
