"""The background notes as an AAR sees them: filled in for its sandbox, read-only beside it."""

import shutil
from pathlib import Path

from aarlab.agents.language.prompts import filled, note_texts
from aarlab.core.files import write_atomic

SEEN = "/notes"


def write_notes(folder: Path, places: dict[str, str]) -> None:
    """Notes with {public}, {workspace}, {python} ... replaced; the folder holds nothing else."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name, text in note_texts().items():
        write_atomic(folder / name, filled(text, places))
