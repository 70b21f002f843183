"""Tasks that come with this package: folders of rows, and generators.

This module loads neither numpy nor torch.

The rows of the folders and their labels are public, as this package is. A sandbox shows an empty
folder in their place (`sandbox/bubblewrap.py`). Verified runs see no text. The deal of the splits
has a seed of its own in each data root. Not covered: an AAR outside a sandbox.
"""

from pathlib import Path

from aarlab.core.errors import NotFound
from aarlab.core.layout import ROWS, SHIPPED, embedded_names


def embedded_folder(name: str) -> Path | None:
    """Return the folder of a shipped task, or None for a generated one.

    Raises NotFound naming the tasks there are.
    """
    if name in ROWS:
        return SHIPPED / name
    if name not in (names := embedded_names()):
        raise NotFound(f"no embedded task {name!r}; there are {', '.join(names)}")
    return None
