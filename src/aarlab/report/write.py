"""Write the report's files. Each is whole or absent, also after a full disk or Ctrl-C."""

import json
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

from aarlab.core.errors import BadInput
from aarlab.core.files import write_atomic
from aarlab.core.wire import CampaignExport
from aarlab.report import (
    arm_figures,
    bars,
    drawing,
    figures,
    idea_figures,
    spend_figures,
    task_figures,
)
from aarlab.report.arms import compare_arms
from aarlab.report.markdown import markdown_of
from aarlab.report.render import render_page
from aarlab.report.spreadsheets import SPREADSHEETS
from aarlab.report.summary import summary_of
from aarlab.report.view import CampaignView, campaign_view


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
    """Write index.html, figures, CSVs and summary.json under `out`, which is made if absent; of
    one development task, the first without a name (NotFound for an unknown one).

    Everything is computed before the first file is written; a figure of an earlier report that has
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
    """File name to content, None for a figure without data. Index.html comes last."""
    drawn: dict[str, Figure | None] = {
        "pgr_over_hours": figures.curve_figure(view, titled=True),
        "standings": bars.standings_figure(view),
        "optimism": bars.optimism_figure(view),
        "ablation": bars.ablation_figure(view),
        "arms": arm_figures.arms_figure(compare_arms(view)),
        "transfer": task_figures.transfer_figure(view),
        "diversity": idea_figures.diversity_figure(view),
        "complexity": idea_figures.complexity_figure(view),
        "spend": spend_figures.spend_figure(view),
        "accuracy": task_figures.accuracy_figure(view),
    }
    images: dict[str, bytes | str | None] = {}
    for name, figure in drawn.items():
        images[f"{name}.png"] = drawing.png_bytes(figure) if figure else None
        images[f"{name}.svg"] = drawing.svg_text(figure) if figure else None
    present = [f"{name}.png" for name, figure in drawn.items() if figure]
    summary = json.dumps(summary_of(view), indent=1, ensure_ascii=False, allow_nan=False)
    return {
        **images,
        **{name: sheet(view) for name, sheet in SPREADSHEETS.items()},
        "summary.json": summary + "\n",
        "report.md": markdown_of(view, present),
        "index.html": render_page(view),
    }
