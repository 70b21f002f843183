"""Text of others goes through core/foreign.py and core/rows.py, and its lines end at \\n only."""

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

SOURCES = Path(__file__).parents[2] / "src" / "aarlab"
# Each part of a quoted post is marked, whatever ends a line for whoever reads it.
SPLITLINES = {"agents/forum_files.py"}
YAML_READERS = {"core/foreign.py", "campaign/reading.py"}  # reading: specs, with line numbers
CSV_READERS = {"core/rows.py"}
FORMATS = {"testbed/tasks/generators/math_problems.py"}  # templates of this package


@cache
def nodes() -> list[tuple[str, ast.Call | ast.Import | ast.ImportFrom]]:
    """Every call and import of the sources, with its file."""
    return [
        (str(path.relative_to(SOURCES)), node)
        for path in SOURCES.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call | ast.Import | ast.ImportFrom)
    ]


def method_calls() -> Iterator[tuple[str, ast.Call, ast.Attribute]]:
    for where, node in nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            yield where, node, node.func


def calls(names: set[str]) -> dict[str, list[str]]:
    """Files that call a method of one of these names: `file: [line, ...]`."""
    found: dict[str, list[str]] = {}
    for where, node, method in method_calls():
        owner = getattr(method.value, "id", "")
        if {method.attr, f"{owner}.{method.attr}"} & names:
            found.setdefault(where, []).append(f"line {node.lineno}")
    return found


def test_lines_are_split_at_line_feeds() -> None:
    """str.splitlines also splits at U+2028, NEL and form feed, which a text may hold."""
    assert calls({"splitlines"}).keys() == SPLITLINES


def test_yaml_and_csv_are_read_in_one_place() -> None:
    readers = calls({"yaml.safe_load", "yaml.load", "yaml.compose", "yaml.full_load"})
    assert readers.keys() <= YAML_READERS
    assert calls({"csv.reader", "csv.DictReader"}).keys() == CSV_READERS


def test_no_format_string_reaches_into_foreign_values() -> None:
    """`"{q.__class__}".format(**row)` reaches attributes: rows are filled by templates.py."""
    for where, node, method in method_calls():
        spread = any(keyword.arg is None for keyword in node.keywords)
        fills = method.attr == "format_map" or (method.attr == "format" and spread)
        assert not fills or where in FORMATS, f"{where}:{node.lineno}"


def test_the_vault_has_two_doors() -> None:
    """The import contract covers the floors below; here the command and the Python API too."""
    importers = set()
    for where, node in nodes():
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{one.name}" for one in node.names}
        elif isinstance(node, ast.Import):
            names = {one.name for one in node.names}
        else:
            continue
        if any(f"{name}.".startswith("aarlab.vault.") for name in names):
            importers.add(where)
    assert {one for one in importers if not one.startswith("vault/")} == {
        "server/app.py",
        "cli/operator.py",
    }
