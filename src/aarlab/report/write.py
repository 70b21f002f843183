"""Files of the report, written whole or not at all, also after a full disk or Ctrl-C.

report.md has the summary and the tables in Markdown, for a repository or a paper's appendix.

Covered: text of others cannot open markup, a link, an image or a new cell.
"""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from aarlab.core.errors import BadInput
from aarlab.core.files import write_atomic
from aarlab.core.headline import (
    AAR_IN_WORDS,
    GUARD_IN_WORDS,
    PERMUTED_IN_WORDS,
    SEARCH_MINUS_SELECTION,
    SPLITS_IN_WORDS,
    drop_in_words,
)
from aarlab.core.wire import CampaignExport
from aarlab.report import (
    arm_figures,
    bars,
    closing,
    drawing,
    figures,
    idea_figures,
    more_tables,
    prose,
    tables,
    task_figures,
)
from aarlab.report.arms import compare_arms
from aarlab.report.data_files import SPREADSHEETS, summary_of
from aarlab.report.render import render_page
from aarlab.report.repeating import repeat_notes
from aarlab.report.tables import Table
from aarlab.report.view import CampaignView, campaign_view

_SPECIAL = re.compile(r"([\\`*_{}\[\]()#+!|~$-])")


def escape(text: str) -> str:
    """Return one line that shows as it is: whatever Markdown reads is escaped."""
    flat = " ".join(text.split())
    quoted = flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _SPECIAL.sub(r"\\\1", quoted).replace("://", ":\u200b//")


def markdown_of(view: CampaignView, images: Iterable[str]) -> str:
    """Return the report as Markdown; `images` are the file names of figures written next to it."""
    arms = compare_arms(view)
    parts = [f"# {escape(view.export.campaign)}", f"**{escape(view.verdict)}**"]
    parts += [escape(text) for text in (view.problem.in_words, AAR_IN_WORDS, GUARD_IN_WORDS)]
    parts += map(escape, prose.summary_paragraphs(view))
    parts += [escape(said.text) for said in closing.further(view)]
    parts += [f"![{name.removesuffix('.png').replace('_', ' ')}]({name})" for name in images]
    shown = [
        tables.leaderboard(view),
        tables.methods_apart(view),
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
    notes = [SPLITS_IN_WORDS, *([PERMUTED_IN_WORDS] if view.problem.weak_labels else [])]
    notes.append(f"{SEARCH_MINUS_SELECTION.capitalize()}: {drop_in_words(view.problem)}.")
    notes += [prose.arms_note(arms), prose.ideas_note(view), prose.multiplicity_note(view)]
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


@dataclass(frozen=True, slots=True)
class ReportFiles:
    """What was written; None for a figure that has no data (no verification, no ablation)."""

    page: Path
    summary: Path
    curve_png: Path
    curve_svg: Path
    optimism_png: Path | None
    ablation_png: Path | None
    spreadsheets: tuple[Path, ...]


def write_report(export: CampaignExport, out: Path, task: str | None = None) -> ReportFiles:
    """Write index.html, figures, CSVs and summary.json under `out`, which is made if absent.

    The report is of one development task, the first without a name (NotFound for an unknown one).

    Everything is computed before the first file is written. A figure of an earlier report that has
    no data any more is removed. Raises BadInput when `out` cannot be written.
    """
    contents = report_contents(campaign_view(export, task))
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.items():
            if content is None:
                (out / name).unlink(missing_ok=True)
            else:
                write_atomic(out / name, content)
    except OSError as error:
        raise BadInput(
            f"cannot write the report to {out}: {error.strerror}; choose another folder"
        ) from error
    present = {name: out / name for name, content in contents.items() if content is not None}
    return ReportFiles(
        page=present["index.html"],
        summary=present["summary.json"],
        curve_png=present["pgr_over_hours.png"],
        curve_svg=present["pgr_over_hours.svg"],
        optimism_png=present.get("optimism.png"),
        ablation_png=present.get("ablation.png"),
        spreadsheets=tuple(present[name] for name in SPREADSHEETS),
    )


def report_contents(view: CampaignView) -> dict[str, bytes | str | None]:
    """Return file name to content, None for a figure without data. Index.html comes last."""
    drawn: dict[str, Figure | None] = {
        "pgr_over_hours": figures.curve_figure(view, titled=True),
        "standings": bars.standings_figure(view),
        "optimism": bars.optimism_figure(view),
        "ablation": bars.ablation_figure(view),
        "arms": arm_figures.arms_figure(compare_arms(view)),
        "transfer": task_figures.transfer_figure(view),
        "diversity": idea_figures.diversity_figure(view),
        "complexity": idea_figures.complexity_figure(view),
        "spend": arm_figures.spend_figure(view),
        "accuracy": task_figures.accuracy_figure(view),
    }
    images: dict[str, bytes | str | None] = {}
    bare = {name: drawing.bare_svg(figure) for name, figure in drawn.items() if figure}
    for name, figure in drawn.items():
        images[f"{name}.png"] = drawing.png_bytes(figure) if figure else None
        images[f"{name}.svg"] = drawing.on_paper(bare[name]) if figure else None
    present = [f"{name}.png" for name, figure in drawn.items() if figure]
    summary = json.dumps(summary_of(view), indent=1, ensure_ascii=False, allow_nan=False)
    return {
        **images,
        **{name: sheet(view) for name, sheet in SPREADSHEETS.items()},
        "summary.json": summary + "\n",
        "report.md": markdown_of(view, present),
        "index.html": render_page(view, bare),
    }
