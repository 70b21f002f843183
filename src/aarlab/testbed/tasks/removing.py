"""Remove versions of tasks, models and pairs: each folder is moved by one rename, then deleted.

Covered: an interrupted removal leaves everything as it was, or running the same command finishes
it. Files that wait for deletion, labels included, are in a folder that only the owner can read.
Not covered: whether they are still needed. The caller checks that first (`core.uses`, `needed_by`).
"""

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import yaml
from filelock import FileLock, Timeout

from aarlab.core.errors import AarlabError, Conflict, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.foreign_yaml import read_yaml
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import (
    CATALOGUE,
    FILE,
    PAIRS,
    GgufSource,
    HuggingFaceSource,
    Source,
    WheelSource,
    catalogue_of,
)
from aarlab.testbed.tasks.task import load_info, model_at_hand

SCRAP = ".removing-"
Part = Literal["models", "pairs"]


@contextmanager
def task_locked(root: DataRoot, name: str) -> Iterator[None]:
    """Lock a task's name, for one build, import or removal at a time.

    Raises Conflict where another process holds the lock.
    """
    try:
        with FileLock(root.path / f".build-{name}.lock", timeout=0):
            yield
    except Timeout as error:
        raise Conflict(f"another process is building task {name} in {root.path}") from error


def remove_task(root: DataRoot, reference: str) -> str | None:
    """Remove both sides of one version of a task and return the name's default version.

    Returns None where no version is left. Raises NotFound where the version does not exist.
    """
    name = root.find_task(reference).name
    with task_locked(root, name):
        one = root.find_task(reference)
        with _scrap(root) as scrap:
            # The vault first: a version that still has its public side can be removed again.
            for side, place in (("vault", root.vault), ("public", root.public)):
                if (place / one.folder).exists():
                    (place / one.folder).rename(scrap / side)
            left = root.versions(name)
            if not one.is_default:
                return next((other.version for other in left if other.is_default), None)
            root.default_file(name).unlink(missing_ok=True)
            if left:
                root.set_default(name, left[-1].version)
            return left[-1].version if left else None


def needed_by(root: DataRoot, part: Part, name: str) -> dict[str, list[str]]:
    """Return the user's pairs and the task versions that need a model or a pair, by kind."""
    known, pairs, tasks = catalogue_of(root), list[str](), list[str]()
    if part == "models":
        pairs = [p.name for p in known.pairs.values() if name in (p.weak.model, p.strong.model)]
    wanted = set(pairs) if part == "models" else {name}
    for task in root.task_names():
        for one in root.versions(task):
            try:
                info = load_info(root.public / one.folder)
            except AarlabError:
                continue  # damaged: reported where it is used
            if info.pair in wanted or (part == "models" and model_at_hand(info) == name):
                tasks.append(one.reference)
    return {"pairs": [p for p in pairs if p not in PAIRS], "tasks": tasks}


def is_pinned(source: Source) -> bool:
    """Return whether fetching the source again is certain to give the same weights."""
    if isinstance(source, GgufSource):
        return source.sha256 is not None and source.path.is_file()
    if isinstance(source, HuggingFaceSource):
        return len(source.revision) == 40
    return isinstance(source, WheelSource)


def remove_own(root: DataRoot, part: Part, name: str, weights_only: bool = False) -> None:
    """Remove a user-defined pair, or a model's weights and its entry if it is user-defined.

    `weights_only` keeps the entry.
    Raises NotFound where there is neither a user-defined entry nor weights.
    """
    folder = root.models / name
    path = root.path / FILE
    raw = (read_yaml(path.read_bytes(), str(path)) if path.exists() else None) or {}
    own = name in (raw.get(part) or {})
    here = part == "models" and folder.is_dir()
    if name in (CATALOGUE if part == "models" else PAIRS) and not here:
        what = "its weights are not here" if part == "models" else "a built-in pair stays"
        raise NotFound(f"nothing to remove of {name!r}: {what}")
    if not own and not here:
        raise NotFound(f"no {part[:-1]} {name!r} of your own; `aarlab models list` shows them")
    root.models.mkdir(parents=True, exist_ok=True)
    with FileLock(root.models / f".{name}.lock"), _scrap(root) as scrap:
        if own and not weights_only:
            del raw[part][name]
            write_atomic(path, yaml.safe_dump(raw, sort_keys=False))
        if here:
            folder.rename(scrap / "weights")


@contextmanager
def _scrap(root: DataRoot) -> Iterator[Path]:
    """Yield a private folder that is deleted on exit with what was moved there.

    Leftovers of a crash are deleted first.
    """
    for stale in root.path.glob(f"{SCRAP}*"):
        shutil.rmtree(stale, ignore_errors=True)
    folder = Path(tempfile.mkdtemp(prefix=SCRAP, dir=root.path))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
