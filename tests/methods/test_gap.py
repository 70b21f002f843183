"""A gap must be clear where AARs are scored and where methods are ranked."""

import numpy as np
import pytest
from gaussian_task import make_task

from aarlab.core.errors import GapNotPositive
from aarlab.testbed.students.baselines import Baseline, check_gap, gaps


def baselines(data, right):
    """Teachers are right on 60 % of the rows, ceilings on a share `right` of each split's."""
    made = {}
    for split, share in right.items():
        truth_N = data.splits[split].targets_N
        n, rng = len(truth_N), np.random.default_rng(0)
        probs = [
            np.abs(truth_N - (rng.random((8, n)) > accuracy)).astype(np.float32)
            for accuracy in (0.6, share)
        ]
        made[split] = Baseline(*probs)
    return made


@pytest.mark.parametrize("split", ["search", "selection"])
def test_a_gap_that_is_not_clear_in_one_split_is_refused_by_name(split):
    data, _ = make_task()
    good = {"search": 0.9, "selection": 0.9}
    check_gap("gauss", gaps(data, baselines(data, good)))
    with pytest.raises(GapNotPositive, match=f"{split} split"):
        check_gap("gauss", gaps(data, baselines(data, {**good, split: 0.6})))
