"""Every text file and every child's output is read and written as UTF-8, whatever the locale says.

Python's default is the locale's encoding: under `LC_ALL=C` an intact file with an umlaut in it was
called damaged.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path for folder in ("src", "benchmarks", "examples") for path in (ROOT / folder).rglob("*.py")
)


def faults_in(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that open a file as text, or read a child's output as text, and name no encoding."""
    entered = {
        id(item.context_expr)
        for node in ast.walk(tree)
        if isinstance(node, ast.With)
        for item in node.items
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        words = {word.arg for word in node.keywords}
        if "encoding" in words or None in words:
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        if (name == "read_text" and not node.args) or (name == "write_text" and len(node.args) < 2):
            yield node
        elif (isinstance(node.func, ast.Name) and node.func.id == "open") or name == "fdopen":
            if "b" not in _mode(node, 1):
                yield node
        elif name == "open" and (id(node) in entered or _is_mode(_mode(node, 0))):
            # `.open("a")` or `with x.open():` of a path; anything else is no file or has a path
            if (not node.args or _is_mode(_mode(node, 0))) and "b" not in _mode(node, 0):
                yield node
        elif any(
            word.arg in ("text", "universal_newlines")
            and isinstance(word.value, ast.Constant)
            and word.value.value is True
            for word in node.keywords
        ):
            yield node


def _mode(call: ast.Call, position: int) -> str:
    """The mode that a call of `open` names; empty where it names none."""
    given = [word.value for word in call.keywords if word.arg == "mode"]
    given += call.args[position : position + 1]
    return next((str(one.value) for one in given if isinstance(one, ast.Constant)), "")


def _is_mode(text: str) -> bool:
    return 0 < len(text) <= 3 and set(text) <= set("rwaxbt+")


def test_text_is_utf8_whatever_the_locale() -> None:
    assert len(SOURCES) > 300
    found = [
        f"{path.relative_to(ROOT)}:{call.lineno}"
        for path in SOURCES
        for call in faults_in(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert not found, f"say encoding='utf-8' in {found}"


def test_the_search_sees_each_kind() -> None:
    source = (
        "p.read_text()\np.write_text(x)\nopen(p)\nopen(p, 'w')\np.open('a')\n"
        "run(x, text=True)\nos.fdopen(h)\nwith p.open() as f: pass\n"
        "p.read_text('utf-8')\nopen(p, 'rb')\np.open('ab')\nos.open(p, flags)\nawait db.open(1)\n"
        "os.fdopen(h, 'wb')\nrun(x, text=True, encoding='utf-8')\nvault.open(name)\npump.open()\n"
    )
    assert [call.lineno for call in faults_in(ast.parse(source))] == [1, 2, 3, 4, 5, 6, 7, 8]
