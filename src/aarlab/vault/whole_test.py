"""All evaluation splits of a task as one: the test file that it was built from.

Published figures are of a whole test file. For an operator's own table only: a campaign's scores
stay on its splits.
"""

import numpy as np

from aarlab.core.layout import DataRoot
from aarlab.core.pgr import SeedSpread
from aarlab.core.types import EVAL_SPLITS, Split
from aarlab.problems.weak_to_strong.scoring import Baselines
from aarlab.vault.vault import Truth, Vault


class WholeTest(Vault):
    """A vault whose every split is the whole test file, in the order of `EVAL_SPLITS`."""

    def __init__(self, data: DataRoot) -> None:
        super().__init__(data)
        self._parts = Vault(data)

    def truth(self, task: str, split: Split) -> Truth:
        parts = [self._parts.truth(task, each) for each in EVAL_SPLITS]
        return Truth(
            tuple(row for part in parts for row in part.ids_N),
            tuple(group for part in parts for group in part.groups_N),
            np.concatenate([part.targets_N for part in parts]),
        )

    def baselines(self, task: str, split: Split) -> Baselines:
        """Return both baselines; raises as `Vault.baselines` does where a split has none."""
        parts = [self._parts.baselines(task, each) for each in EVAL_SPLITS]
        return Baselines(
            np.concatenate([part.weak_SN for part in parts], axis=1),
            np.concatenate([part.ceiling_SN for part in parts], axis=1),
            _spread(parts),
        )


def _spread(parts: list[Baselines]) -> SeedSpread | None:
    """Return the spread of plain students on all rows, at most.

    A mean over the splits varies no more than if the same seeds were high on each of them.
    """
    spreads = [part.spread for part in parts if part.spread is not None]
    if len(spreads) < len(parts):
        return None
    shares = np.array([part.weak_SN.shape[1] for part in parts], dtype=np.float64)
    shares /= shares.sum()
    sd = float(shares @ np.sqrt([one.variance for one in spreads]))
    return SeedSpread(sd**2, min(one.n_seeds for one in spreads))
