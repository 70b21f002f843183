"""Files of arrays: written whole or not at all, the same bytes for the same content."""

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from aarlab.core.files import write_atomic
from aarlab.testbed.task import WeakLabels


def write_arrays(path: Path, arrays: Mapping[str, NDArray[np.generic]], mode: int = 0o644) -> None:
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **arrays)
    write_atomic(path, buffer.getvalue(), mode)


def weak_label_arrays(labels: WeakLabels) -> dict[str, NDArray[np.generic]]:
    """As `load_weak_labels` reads them."""
    return {
        "ids": np.array(labels.ids),
        "seeds": np.array(labels.seeds, dtype=np.int64),
        "probs_SN": labels.probs_SN.astype(np.float32),
    }
