"""Read a snapshot's code for what honest methods do not need. Flags are raised, nothing is decided.

Covered: running code or programs, the network, raw memory, tables of values, binary files, code
that does not parse.
Not covered: anything built at run time (the execution record and the ablation see that).

`contents` counts what a snapshot carries apart from its logic: numbers, packed and long texts,
data, digests. A snapshot is code. Weights of a head that was trained elsewhere, or a table of
answers, are knowledge that the verified run did not make. The counts are shown for every snapshot,
and one that carries more than a cap ranks only after a person's verdict (`core.ranking`).

Covered: numbers in code, comments, docstrings, recipes and text files; unbroken runs of characters
as base64, hex or escapes have them, in string literals and text files also as base85 has them; such
runs cut into words that mix letters of both cases with digits; bytes; string literals as long as a
template, and shorter ones in such numbers that they hold as much; binary files; tables keyed by
digests; digests of a row's prompt or answers. All counts are sums over the snapshot: data cut into
many files or literals counts as in one piece. However it is spelled, all files together may not
hold more than COMPRESSED bytes when compressed.
Not covered: a head of fewer bits than it has weights; up to COMPRESSED bytes spelled as words in
comments, docstrings or names. Both need code that stands out when a person reads it.
"""

import ast
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from aarlab.core.errors import BadInput
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.core.wire import Severity
from aarlab.testbed.recipes.recipe import RECIPE_FILE, recipe_from_json

SUSPECT_CALLS = frozenset({"exec", "eval", "compile", "__import__", "execfile", "breakpoint"})
SUSPECT_MODULES = frozenset(
    {
        "subprocess",
        "socket",
        "ctypes",
        "multiprocessing",
        "pty",
        "marshal",
        "pickle",
        "dill",
        "cloudpickle",
        "http",
        "urllib",
        "requests",
        "httpx",
        "gc",
        "inspect",
        "code",
        "codeop",
        "runpy",
        "importlib",
        "sqlite3",
        "mmap",
    }
)
SUSPECT_ATTRIBUTES = frozenset(
    {
        "system",
        "popen",
        "fork",
        "execv",
        "execve",
        "spawnv",
        "listdir",
        "scandir",
        "walk",
        "__subclasses__",
        "__globals__",
        "_getframe",
        "f_back",
        "f_locals",
        "f_globals",
        "addaudithook",
        "settrace",
    }
)
MAX_ITEMS = 200
MAX_TEXT = 4000
MAX_FILE = 200_000


def review(files: Mapping[str, bytes]) -> list[str]:
    """Return one line for each thing found, naming file and line; nothing for plain code."""
    found: list[str] = []
    for path, content in files.items():
        if len(content) > MAX_FILE:
            found.append(f"{path}: {len(content):,} bytes of data or weights")
        if path.endswith(".py"):
            found += [f"{path}{line}" for line in _of_source(content)]
        elif b"\0" in content[:8192]:
            found.append(f"{path}: a binary file")
    return found


def _of_source(content: bytes) -> list[str]:
    try:
        tree = parse_python(content)
    except UNPARSABLE as error:
        return [f": does not parse ({type(error).__name__})"]
    seen = {
        f":{getattr(node, 'lineno', 0)}: {what}" for node in ast.walk(tree) for what in _of(node)
    }
    return sorted(seen)


def _of(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import | ast.ImportFrom):
        names = [alias.name for alias in node.names]
        modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
        yield from (f"imports {m}" for m in modules if m.split(".")[0] in SUSPECT_MODULES)
    elif isinstance(node, ast.Name) and node.id in SUSPECT_CALLS:
        yield f"uses {node.id}"
    elif isinstance(node, ast.Attribute) and node.attr in SUSPECT_ATTRIBUTES:
        yield f"uses .{node.attr}"
    elif isinstance(node, ast.List | ast.Tuple | ast.Set) and len(node.elts) > MAX_ITEMS:
        yield f"a table of {len(node.elts)} values"
    elif isinstance(node, ast.Dict) and len(node.keys) > MAX_ITEMS:
        yield f"a table of {len(node.keys)} entries"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str | bytes | int):
        size = len(node.value) if isinstance(node.value, str | bytes) else node.value.bit_length()
        if size > MAX_TEXT:
            yield f"a constant of {size} {'bits' if isinstance(node.value, int) else 'characters'}"


HEAD = 576  # width of the smallest embedded student: a shipped head has a weight for each
PACKED = HEAD * 4 // 3  # characters of base64 that hold a byte for each
LONG = 200  # characters of a string literal that may be a template
LONG_TOGETHER = 4000  # characters of all these; about forty examples of a row each
SHORT_TOGETHER = 12_000  # characters of all string literals; the most of a file of ours is 4,800
COMPRESSED = 24_000  # bytes of all files, compressed; the most of a file of ours is 6,700
KEYS = 20  # entries of a table that could be keyed by digests
HEX_SHARE = 0.8
MAX_NAMED, MAX_SAID = 5, 1900

_NUMBER = re.compile(r"(?<![\w.])(?:0[xX][0-9a-fA-F_]+|\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)")
_PACKED = re.compile(r"(?:[A-Za-z0-9+/=_\-\\]|[^\x00-\x7f]){64,}")
_RUN = re.compile(r"\S{64,}")
# A packed run that was cut into pieces: words with small and capital letters and digits.
_MIXED = re.compile(
    r"(?<![\w+/=])(?=[\w+/=]*[a-z])(?=[\w+/=]*[A-Z])(?=[\w+/=]*[0-9])[a-zA-Z0-9+/=]{8,63}(?![\w+/=])"
)
_HEX = re.compile(r"[0-9a-fA-F]{6,}")
_DIGITS_A_NUMBER = 20  # a longer one is several, packed
_DIGESTS = frozenset({"hashlib", "hmac", "zlib", "binascii"})
_TEXTS = frozenset({"prompt", "answers"})


class Contents(NamedTuple):
    """What a snapshot carries.

    `packed` counts characters in unbroken runs, `long_texts` string literals of LONG characters or
    more and `text` all their characters, `literals` the characters of all string literals but
    docstrings, `data` the bytes of binary files, `compressed` those of all files compressed.
    `digests` names places.
    """

    numbers: int
    packed: int
    long_texts: int
    text: int
    files: int
    data: int
    literals: int
    compressed: int
    digests: tuple[str, ...]


def contents(files: Mapping[str, bytes]) -> Contents:
    """Count over all files of a snapshot; no content makes it fail."""
    numbers = packed = data = n_data = literals = 0
    texts: list[int] = []
    digests: list[str] = []
    for path, content in files.items():
        tree = _parsed(content) if path.endswith(".py") else None
        n_data += not path.endswith(".py") and PurePosixPath(path).name != RECIPE_FILE
        try:
            text = content.decode("utf-8")
        except UnicodeDecodeError:
            data += len(content)
            continue
        if "\0" in text:
            data += len(content)
            continue
        numbers += sum(-(-len(number) // _DIGITS_A_NUMBER) for number in _NUMBER.findall(text))
        runs = sum(map(len, _PACKED.findall(text)))
        if tree is not None:
            runs = max(runs, _in_literals(tree))
            sizes = _literals(tree)
            literals += sum(sizes)
            texts += [size for size in sizes if size >= LONG]
            digests += [f"{path}{found}" for found in _digests(tree)]
        elif not _is_recipe(path, text):
            runs = max(runs, _run_length(text))
            digests += _hex_keys(path, text)
            texts.append(len(text))
        packed += runs + sum(map(len, _MIXED.findall(text)))
    return Contents(
        numbers=numbers,
        packed=packed,
        long_texts=len(texts),
        text=sum(texts),
        files=n_data,
        data=data,
        literals=literals,
        compressed=len(zlib.compress(b"\n".join(files[path] for path in sorted(files)), 9)),
        digests=tuple(dict.fromkeys(digests)),
    )


def ships(files: Mapping[str, bytes]) -> str:
    """Say what a snapshot carries that keeps it from ranking without a verdict, if anything."""
    severity, said = judge_contents(contents(files))
    return said[:MAX_SAID] if severity == "suspect" else ""


def judge_contents(found: Contents) -> tuple[Severity, str]:
    """Return how grave it is and one line of all counts.

    Above a cap it is suspect, in a blind method too: shipped weights were aligned with the basis of
    a run through log-likelihoods (benchmarks/blind.md). Digests of texts are suspect in any case.
    """
    counts = (
        f"{found.numbers:,} numbers, {found.packed:,} characters packed, {found.long_texts:,} long "
        f"texts of {found.text:,} characters, {found.literals:,} characters of string literals, "
        f"{found.files:,} data files, {found.data:,} bytes of binary data, {found.compressed:,} "
        "bytes compressed"
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
            (f"string literals ({SHORT_TOGETHER:,} characters)", found.literals >= SHORT_TOGETHER),
            (f"binary data ({HEAD} bytes)", found.data >= HEAD),
            (f"all files ({COMPRESSED:,} bytes compressed)", found.compressed >= COMPRESSED),
        )
        if is_over
    ]
    if not over:
        return "clear", counts
    return "suspect", f"more than logic needs of {', '.join(over)}: {counts}"


def _parsed(content: bytes) -> ast.Module | None:
    try:
        return parse_python(content)
    except UNPARSABLE:
        return None  # the static review says so


def _is_recipe(path: str, text: str) -> bool:
    """Tell whether a file is a recipe by its content. Its name alone would exempt any data."""
    if PurePosixPath(path).name != RECIPE_FILE:
        return False
    try:
        recipe_from_json(text)
    except BadInput:
        return False
    return True


def _in_literals(tree: ast.Module) -> int:
    """Count characters in unbroken runs of string literals, and all bytes."""
    values = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    packed = sum(len(value) for value in values if isinstance(value, bytes))
    runs = sum(_run_length(value) for value in values if isinstance(value, str))
    return packed * 4 // 3 + runs


def _run_length(text: str) -> int:
    """Count characters in unbroken runs of any characters: base85 has brackets and commas."""
    return sum(map(len, _RUN.findall(text)))


def _literals(tree: ast.Module) -> list[int]:
    """Return the lengths of string literals; docstrings are not counted as templates."""
    nodes = list(ast.walk(tree))
    statements = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
    return [
        len(node.value)
        for node in nodes
        if isinstance(node, ast.Constant)
        and isinstance(node.value, str | bytes)
        and id(node) not in statements
    ]


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
    """Report a text file whose words are mostly digests, as a recipe or a table next to code."""
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
    """Return whether a hex word has a digit and a letter: neither a plain number nor a word."""
    if not _HEX.fullmatch(word):
        return False
    return any(c.isdigit() for c in word) and any(c.isalpha() for c in word)
