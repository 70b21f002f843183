"""Text alternatives of the figures: the numbers in words, for who cannot see them."""

from aarlab.report import wording
from aarlab.report.arm_figures import spenders
from aarlab.report.arms import MEASURES, Comparison
from aarlab.report.idea_data import diversity_by_group, timed_ideas
from aarlab.report.transfer import shown_rows, transfer
from aarlab.report.view import CampaignView


def arms(comparison: Comparison) -> str:
    parts = []
    for group in comparison.groups:
        values = ", ".join(wording.signed(value) for value in group.values(MEASURES[0]))
        figure = f"best verified {comparison.figure} of its replicates"
        parts.append(f"{group.name}: {figure} {values or 'none'}")
    return "Arms compared. " + "; ".join(parts) + "."


def diversity(view: CampaignView) -> str:
    parts = [
        f"{name}: {points[0].bits:.2f} bits at step {points[0].step}, {points[-1].bits:.2f} at "
        f"step {points[-1].step}"
        for name, points in diversity_by_group(view).items()
    ]
    return "Entropy of the families of ideas. " + "; ".join(parts) + "."


def complexity(view: CampaignView) -> str:
    sizes = [idea.complexity for idea in timed_ideas(view) if idea.complexity is not None]
    if not sizes:
        return "Size of the methods over time."
    first, last = sizes[0], sizes[-1]
    return (
        f"Size of {len(sizes)} methods over research time. The first has {first.lines} lines and "
        f"{first.nodes} syntax-tree nodes, the last {last.lines} and {last.nodes}."
    )


def standings(view: CampaignView) -> str:
    known = [m for m in view.methods if m.verified and not m.apart]
    parts = [f"{m.short} {wording.interval(m.verified)}" for m in known]
    return f"{view.problem.figure} on the selection split. " + "; ".join(parts) + "."


def transfers(view: CampaignView) -> str:
    found = transfer(view)
    parts = []
    for row in shown_rows(found):
        cells = zip(found.columns, row.estimates, strict=True)
        said = ", ".join(f"{c.task.name} {wording.interval(e)}" for c, e in cells)
        parts.append(f"{row.method.short}: {said}")
    return f"Verified {view.problem.figure} by task. " + "; ".join(parts) + "."


def accuracies(view: CampaignView) -> str:
    parts = [
        f"{c.task.name}: weak {wording.accuracy(c.baseline.weak)}, ceiling "
        f"{wording.accuracy(c.baseline.ceiling)}"
        for c in transfer(view).columns
        if c.baseline
    ]
    return "Accuracies on the selection split. " + "; ".join(parts) + "."


def spend(view: CampaignView) -> str:
    parts = [
        f"{row.name}: {wording.dollars(row.dollars)}, "
        f"{wording.duration(row.total('device_s'))} of device time"
        for row in spenders(view)
    ]
    return "Spend. " + "; ".join(parts) + "."
