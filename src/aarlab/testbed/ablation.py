"""Teacher ablation: the weak labels, replaced so that what they say about the rows is gone.

Legend: S weak teachers, N train rows.
"""

import numpy as np
from numpy.typing import NDArray

from aarlab.core.wire import Ablation

Floats = NDArray[np.float64]


def ablated(labels_SN: Floats, ablation: Ablation, rng: np.random.Generator) -> Floats:
    """Weak labels under an ablation; "none" returns them as they are.

    permuted: shuffled over the rows, all teachers alike, so that class prior, confidences and how
    teachers agree are kept; noise: uniform on [0, 1], drawn for each teacher; flipped: 1 - label.
    """
    if ablation == "permuted":
        return labels_SN[:, rng.permutation(labels_SN.shape[1])]
    if ablation == "noise":
        return rng.random(labels_SN.shape)
    return 1 - labels_SN if ablation == "flipped" else labels_SN
