"""Two versions of a method's files side by side, highlighted on the server.

Covered: contents that make a lexer or difflib slow (sizes are bounded, the lexer is one of a few),
contents and names that are markup (everything is escaped).
Not covered: renames; they show as one file removed and one added.
"""

import difflib
from typing import Any

from markupsafe import Markup, escape
from pygments import lex
from pygments.lexer import Lexer
from pygments.lexers import JsonLexer, MarkdownLexer, PythonLexer, YamlLexer
from pygments.token import STANDARD_TYPES

from aarlab.store.snapshots import Contents

LEXERS: dict[str, type[Lexer]] = {
    "py": PythonLexer,
    "json": JsonLexer,
    "yaml": YamlLexer,
    "yml": YamlLexer,
    "md": MarkdownLexer,
}
MAX_BYTES, MAX_LINES, MAX_TOTAL, MAX_LINE = 200_000, 2000, 6000, 1000
CONTEXT = 3
Facts = dict[str, Any]


def side_by_side(old: Contents, new: Contents) -> list[Facts]:
    """Return the files by path, those that differ first.

    Each has rows, or says why it has none.
    """
    left = MAX_TOTAL
    found = []
    for path in sorted(old.keys() | new.keys()):
        one = _file(path, old.get(path), new.get(path), left)
        left -= len(one["rows"])
        found.append(one)
    return sorted(found, key=lambda file: file["change"] == "same")


def _file(path: str, before: bytes | None, after: bytes | None, left: int) -> Facts:
    change = "added" if before is None else "removed" if after is None else "changed"
    if before == after:
        change = "same"
    facts: Facts = {"path": path, "change": change, "rows": [], "omitted": ""}
    texts = _text(before), _text(after)
    if texts[0] is None or texts[1] is None:
        return {**facts, "omitted": "binary"}
    lines = texts[0].split("\n") if texts[0] else [], texts[1].split("\n") if texts[1] else []
    longest = max((len(line) for side in lines for line in side), default=0)
    if max(map(len, lines)) > min(MAX_LINES, left) or longest > MAX_LINE:
        return {**facts, "omitted": "too large"}
    if change == "same":  # no row would be shown
        return facts
    shown = _highlighted(path, texts[0]), _highlighted(path, texts[1])
    return {**facts, "rows": _rows(lines, shown)}


def _text(content: bytes | None) -> str | None:
    """Return the text; None if the content is not text, or too much of it."""
    if len(content or b"") > MAX_BYTES:
        return None
    try:
        text = (content or b"").decode().replace("\r\n", "\n").replace("\r", "\n").rstrip("\n")
    except UnicodeDecodeError:
        return None
    return None if "\0" in text else text


def _highlighted(path: str, text: str) -> list[Markup]:
    """Return each line as safe HTML."""
    kind = LEXERS.get(path.rpartition(".")[2])
    if kind is None:
        return [Markup.escape(line) for line in text.split("\n")]
    lines: list[list[str]] = [[]]
    for token, value in lex(text, kind(stripnl=False, ensurenl=False)):
        name = STANDARD_TYPES.get(token, "")
        for number, part in enumerate(value.split("\n")):
            if number:
                lines.append([])
            if part:
                safe = str(escape(part))
                lines[-1].append(f'<span class="{name}">{safe}</span>' if name else safe)
    return [Markup("".join(line)) for line in lines]


def _rows(
    lines: tuple[list[str], list[str]], shown: tuple[list[Markup], list[Markup]]
) -> list[Facts]:
    """Pairs of lines: same, changed, added, removed; `gap` rows stand for unchanged lines."""
    rows: list[Facts] = []
    end = 0
    matcher = difflib.SequenceMatcher(None, *lines)
    for group in matcher.get_grouped_opcodes(CONTEXT):
        if skipped := group[0][1] - end:
            rows.append({"kind": "gap", "lines": skipped})
        for tag, old_from, old_to, new_from, new_to in group:
            for k in range(max(old_to - old_from, new_to - new_from)):
                old = old_from + k if old_from + k < old_to else None
                new = new_from + k if new_from + k < new_to else None
                rows.append(_row("same" if tag == "equal" else "other", old, new, shown))
        end = group[-1][2]
    if rows and (rest := len(lines[0]) - end) > 0:
        rows.append({"kind": "gap", "lines": rest})
    return rows


def _row(
    kind: str, old: int | None, new: int | None, shown: tuple[list[Markup], list[Markup]]
) -> Facts:
    if kind != "same":
        kind = "added" if old is None else "removed" if new is None else "changed"
    return {
        "kind": kind,
        "old": None if old is None else old + 1,
        "old_html": "" if old is None else shown[0][old],
        "new": None if new is None else new + 1,
        "new_html": "" if new is None else shown[1][new],
    }
