"""report.md: the summary and the tables in Markdown, for a repository or a paper's appendix.

Covered: text of others can neither open markup, a link, an image nor a new cell.
"""

import re
from collections.abc import Iterable

from aarlab.core.headline import AAR_IN_WORDS, GUARD_IN_WORDS, PGR_IN_WORDS
from aarlab.report import more_tables, prose, tables
from aarlab.report.arms import compare_arms
from aarlab.report.repeating import repeat_notes
from aarlab.report.tables import Table
from aarlab.report.view import CampaignView

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def escape(text: str) -> str:
    """One line that shows as it is: whatever Markdown reads is escaped."""
    flat = " ".join(text.split())
    quoted = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", quoted).replace("://", ":\u200b//")


def markdown_of(view: CampaignView, images: Iterable[str]) -> str:
    """`images` are the figures that were written beside it, by file name."""
    arms = compare_arms(view)
    parts = [f"# {escape(view.export.campaign)}", f"**{escape(view.verdict)}**"]
    parts += [escape(text) for text in (PGR_IN_WORDS, AAR_IN_WORDS, GUARD_IN_WORDS)]
    parts += map(escape, prose.summary_paragraphs(view))
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in images]
    shown = [
        tables.leaderboard(view),
        tables.open_methods(view),
        more_tables.groups(arms) if arms else None,
        more_tables.differences(arms) if arms else None,
        more_tables.transfers(view),
        more_tables.families(view),
        more_tables.hacks(view),
        more_tables.checks(view),
        tables.aars(view),
        tables.spend(view),
        more_tables.model_spend(view),
        tables.baselines(view),
    ]
    parts += [table_text(table) for table in shown if table is not None and table.rows]
    notes = [prose.arms_note(arms), prose.ideas_note(view), prose.multiplicity_note(view)]
    if said := prose.delivery_note(view):
        notes.append(said)
    parts += [*map(escape, notes), "## Methods and limits"]
    named = [*prose.methods_notes(view), *repeat_notes(view)]
    parts += [f"**{escape(name)}.** {escape(text)}" for name, text in named]
    return "\n\n".join(parts) + "\n"


def table_text(table: Table) -> str:
    lines = [
        "| " + " | ".join(escape(column.title) for column in table.columns) + " |",
        "|" + "|".join("---:" if column.numeric else "---" for column in table.columns) + "|",
    ]
    for row in table.rows:
        cells = (" ".join(filter(None, (cell.text, cell.small))) for cell in row.cells)
        lines.append("| " + " | ".join(escape(cell) for cell in cells) + " |")
    return f"### {escape(table.caption)}\n\n" + "\n".join(lines)
