"""Which campaigns use which versions of tasks: one small file per run folder, in the data root.

A campaign records its tasks when it is created and whenever it starts. A note is dropped if its run
folder is gone. It is kept and counts if the parent folder is gone too (an unmounted disk).
"""

import json
from pathlib import Path
from typing import NamedTuple

from aarlab.core.canonical import sha256_hex
from aarlab.core.files import write_json
from aarlab.core.layout import DataRoot, RunDir


class Use(NamedTuple):
    """A run folder and the tasks, as `name@version`, that its campaign is bound to."""

    run: Path
    tasks: tuple[str, ...]


def note_use(root: DataRoot, run: RunDir, versions: dict[str, str]) -> None:
    """Record what a campaign is bound to, replacing any earlier note of the same run folder."""
    folder = _folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    where = str(run.path.absolute())
    tasks = [f"{name}@{version}" for name, version in sorted(versions.items()) if version]
    write_json(folder / f"{sha256_hex(where)[:24]}.json", {"run": where, "tasks": tasks}, 0o600)


def uses(root: DataRoot) -> list[Use]:
    """List the campaigns that exist, by run folder, and delete notes of those that are gone."""
    found = []
    for path in sorted(_folder(root).glob("*.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            one = Use(Path(said["run"]), tuple(map(str, said["tasks"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if RunDir(one.run).spec.is_file() or not one.run.parent.is_dir():
            found.append(one)
        else:
            path.unlink(missing_ok=True)
    return sorted(found)


def users_of(root: DataRoot, reference: str) -> list[Path]:
    """List the run folders of the campaigns bound to `name@version`."""
    return [use.run for use in uses(root) if reference in use.tasks]


def _folder(root: DataRoot) -> Path:
    return root.path / "uses"
