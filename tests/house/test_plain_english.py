"""What users see is idiomatic English: calques and private nouns that were removed stay away.

Checked are pages, the help of every command, templates, prompts and notes of AARs, and text in the
sources that is not a docstring.
"""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from commands import commands

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / "src" / "aarlab"
PLAIN = {
    r"\banew\b": "again",
    r"\b(?:goes|go|went|going) on (?!to\b)": "continues, resumes",
    r"\b(?:goes|go|went) on[.,;:]": "continues, resumes",
    r"\bat hand\b": "available",
    r"\bbeside\b": "next to, together with",
    r"\bmend(?:s|ed)?\b": "fix",
    r"\bhasty\b": "what is meant",
    r"\blower states\b": "intermediate activations",
    r"(?<![./])\blobby\b(?!/)": "the list of campaigns",
    r"\bstands? twice\b": "is given twice",
    r"\bfor good\b": "permanently",
    r"\b(?:our|the campaign's|nobody's) books\b": "the ledger",
    r"\b(?:is|are|was|were) told\b": "is reported, gets, knows",
    r"\btold apart\b": "distinguished",
    r"\bhonest readers?\b": "honest references",
    # "There is no price" is idiomatic, "this is no price" is not.
    r"(?<!there )(?<!where )(?<!if )\b(?:is|are) no (?!longer|better|more|less|worse|need)\w+": (
        "is not a"
    ),
}
WORDS = re.compile("|".join(f"(?:{pattern})" for pattern in PLAIN), re.IGNORECASE)


def found(text: str) -> list[str]:
    """Return what to rewrite in a text, each with the words around it."""
    flat = re.sub(r"\s+", " ", text)
    return [flat[max(m.start() - 50, 0) : m.end() + 30] for m in WORDS.finditer(flat)]


@pytest.mark.parametrize(
    ("text", "is_plain"),
    [
        ("there is no price, and there\nare no rows", True),
        ("`x` is no number", False),
        ("these are no 95 % intervals", False),
        ("It is no longer there", True),
        ("the same command goes on", True),  # without what follows it may be a noun
        ("the same command goes on where it stopped", False),
        ("The model is at hand.", False),
        ("AARs are told no figure", False),
    ],
)
def test_the_patterns_find_calques_only(text: str, is_plain: bool) -> None:
    assert (found(text) == []) is is_plain


@pytest.mark.parametrize(
    "path",
    sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *SOURCES.rglob("*.md")]),
    ids=lambda path: path.name,
)
def test_pages(path: Path) -> None:
    text = re.sub(r"```.*?```", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    assert found(re.sub(r"`[^`\n]*`", "`…`", text)) == []


def test_the_help_of_every_command() -> None:
    for words, command in commands():
        said = [command.help, *(getattr(each, "help", None) for each in command.params)]
        for text in said:
            assert found(text or "") == [], " ".join(words)


def test_templates_of_report_and_dashboard() -> None:
    for path in sorted(SOURCES.rglob("*.html")):
        text = re.sub(r"\{[{%#].*?[}%#]\}", "…", path.read_text(encoding="utf-8"))
        assert found(re.sub(r"<[^>]*>", " ", text)) == [], path.name


def texts(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the texts of a module that are not docstrings, with their lines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    described = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.JoinedStr):
            parts = [p.value if isinstance(p, ast.Constant) else "…" for p in node.values]
            described |= {id(p) for p in node.values}
            yield node.lineno, "".join(map(str, parts))
        elif isinstance(node, ast.Constant) and id(node) not in described:
            yield node.lineno, str(node.value)


def test_messages() -> None:
    wrong = [
        f"{path.relative_to(SOURCES)}:{line}: {said}"
        for path in sorted(SOURCES.rglob("*.py"))
        for line, text in texts(path)
        for said in found(text)
    ]
    assert wrong == []
