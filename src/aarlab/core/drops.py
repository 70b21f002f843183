"""How far a PGR falls from search to selection, compared with how far vanilla falls.

A score on search is flattered by the choice that was made on it. It also differs from that on
selection because the rows differ, and because all scores on search share the public weak teachers:
that part moves every method alike, the plain one included. What is left after vanilla's drop is
subtracted (a difference in differences) is the method's own.
"""

import math
from dataclasses import dataclass

from aarlab.core.ranking import RunKey, first_runs, inflated_stderr, role_of
from aarlab.core.wire import CampaignExport, Interval

VANILLA = "vanilla"
NO_VANILLA = "vanilla was not run on both splits, so the drop is compared with nothing"


@dataclass(frozen=True, slots=True)
class Both:
    """The PGR of one method on search and on selection."""

    search: Interval
    selection: Interval

    @property
    def drop(self) -> float:
        return self.search.value - self.selection.value

    @property
    def stderr(self) -> float:
        """Standard error of the drop, each part widened for its number of seeds."""
        return math.hypot(inflated_stderr(self.search), inflated_stderr(self.selection))


@dataclass(frozen=True, slots=True)
class Drop:
    """A method's drop beside vanilla's; `vanilla` is None where it was not run on both splits."""

    method: Both
    vanilla: Both | None

    @property
    def value(self) -> float:
        """Search minus selection, less that of vanilla."""
        return self.method.drop - (self.vanilla.drop if self.vanilla else 0.0)

    @property
    def z(self) -> float:
        """The drop in standard errors.

        Both drops share rows, baselines and teachers. Their difference is therefore taken to have
        the error of the less certain one. In simulation it has .7 to .85 of that
        (benchmarks/coverage.md).
        """
        errors = [both.stderr for both in (self.method, self.vanilla) if both is not None]
        return self.value / max(*errors, 1e-9)

    def said(self) -> str:
        """Describe the drop in one sentence, with vanilla's."""
        if self.vanilla is None:
            return f"search minus selection is {self.method.drop:+.2f}; {NO_VANILLA}"
        return (
            f"search minus selection is {self.method.drop:+.2f}, {self.value:+.2f} less vanilla's "
            f"{self.vanilla.drop:+.2f}"
        )


def vanilla_of(export: CampaignExport, task: str) -> Both | None:
    """Return the figures of the vanilla baseline; None where it lacks one of the two."""
    own = {aar.name for aar in export.aars if role_of(aar.researcher, aar.arm) != "aar"}
    plain = {s.id for s in export.snapshots if s.aar in own and s.name == VANILLA}
    runs = first_runs(export.verifications)
    found = (runs.get(RunKey(task, snapshot, "selection", "none")) for snapshot in sorted(plain))
    selection = next((run.estimate for run in found if run is not None), None)
    claims = [
        s.exact
        for s in export.submissions
        if s.task == task and s.aar in own and (s.snapshot in plain or s.method == VANILLA)
    ]
    if selection is None or not claims:
        return None
    return Both(max(claims, key=lambda claim: claim.value), selection)
