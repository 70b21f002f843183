"""What a snapshot's files show without being run: words of the code, its size, its recipe.

Covered: code that does not parse, hostile nesting, binary and huge files (they show nothing).
Not covered: code that another file builds at run time.
"""

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from aarlab.core.errors import BadInput
from aarlab.core.ideas import Complexity
from aarlab.core.python_source import UNPARSABLE, parse_python
from aarlab.testbed.recipe import STAGES, Recipe, normal, recipe_from_json

MAX_SOURCE = 200_000
MAX_WORD = 60
RECIPE_FILE = "recipe.json"
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENCODING,
    tokenize.ENDMARKER,
}


@dataclass(frozen=True, slots=True)
class Features:
    """`words`: every name, import and short string of the code, spelled with spaces.

    `settings`: the recipe's options that are in effect and not at their default, `stage.name`.
    `complexity` is None where nothing parses.
    """

    words: frozenset[str]
    settings: Mapping[str, str]
    is_recipe: bool
    complexity: Complexity | None


def features_of(files: Mapping[str, bytes]) -> Features:
    sources = [c for p, c in sorted(files.items()) if p.endswith(".py") and len(c) <= MAX_SOURCE]
    parsed = [(tree, source) for source in sources if (tree := _parsed(source)) is not None]
    words = {word for tree, _ in parsed for word in _words(tree)}
    recipe = _recipe(files.get(RECIPE_FILE))
    settings = {} if recipe is None else _settings(recipe)
    size = Complexity(
        lines=sum(_code_lines(tree, source) for tree, source in parsed),
        nodes=sum(_n_nodes(tree) for tree, _ in parsed),
        options=None if recipe is None else len(settings),
    )
    return Features(frozenset(words), settings, recipe is not None, size if parsed else None)


def spelled(name: str) -> str:
    """`fitCcs_probe` as `fit ccs probe`, so that one pattern reads code and prose."""
    apart = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", " ", name)
    return re.sub(r"[\W_]+", " ", apart).strip().lower()


def _parsed(source: bytes) -> ast.Module | None:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            return parse_python(source)
    except UNPARSABLE:
        return None


def _words(tree: ast.Module) -> Iterator[str]:
    docstrings = {id(node) for node in _docstrings(tree)}
    for node in ast.walk(tree):
        for name in _names(node):
            yield spelled(name)
        is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if is_text and id(node) not in docstrings and len(node.value) <= MAX_WORD:  # type: ignore[attr-defined]
            yield spelled(node.value)  # type: ignore[attr-defined]


def _names(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Name):
        yield node.id
    elif isinstance(node, ast.Attribute):
        yield node.attr
    elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        yield node.name
    elif isinstance(node, ast.arg | ast.keyword):
        yield node.arg or ""
    elif isinstance(node, ast.alias):
        yield node.name
        yield node.asname or ""
    elif isinstance(node, ast.ImportFrom):
        yield node.module or ""


def _docstrings(tree: ast.Module) -> Iterator[ast.Constant]:
    kinds = (ast.Module, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    for node in ast.walk(tree):
        body = node.body if isinstance(node, kinds) else []
        first = body[0] if body else None
        is_text = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
        if is_text and isinstance(first.value.value, str):  # type: ignore[union-attr]
            yield first.value  # type: ignore[union-attr]


def _n_nodes(tree: ast.Module) -> int:
    """Nodes without docstrings and without load / store marks, which say nothing."""
    marks = sum(isinstance(node, ast.expr_context) for node in ast.walk(tree))
    return sum(1 for _ in ast.walk(tree)) - marks - 2 * sum(1 for _ in _docstrings(tree))


def _code_lines(tree: ast.Module, source: bytes) -> int:
    inside = {
        line
        for node in _docstrings(tree)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines: set[int] = set()
    try:
        for token in tokenize.tokenize(io.BytesIO(source).readline):
            if token.type not in _NO_CODE:
                lines.update(range(token.start[0], token.end[0] + 1))
    except (tokenize.TokenError, SyntaxError, UnicodeDecodeError):  # what the parser alone takes
        return len([line for line in source.split(b"\n") if line.strip()])
    return len(lines - inside)


def _recipe(content: bytes | None) -> Recipe | None:
    try:
        return None if content is None else normal(recipe_from_json(content.decode()))
    except (BadInput, UnicodeDecodeError):
        return None


def _settings(recipe: Recipe) -> dict[str, str]:
    found = {}
    for stage in STAGES:
        options = getattr(recipe, stage)
        for name, field in type(options).model_fields.items():
            value = getattr(options, name)
            if value != field.default:
                found[f"{stage}.{name}"] = str(value)
    return found
