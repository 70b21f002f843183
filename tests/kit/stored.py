"""All files of a blob folder, local or remote, as they lie there."""

from pathlib import Path

from aarlab.store.blobs import Folder


def stored_files(folder: Folder) -> dict[str, bytes]:
    if folder.local is not None:
        paths = [path for path in folder.local.rglob("*") if path.is_file()]
        return {str(path.relative_to(folder.local)): path.read_bytes() for path in paths}
    names = folder._fs.find(folder._root)
    return {name.removeprefix(f"{folder._root}/"): folder._fs.cat(name) for name in names}


def overwrite(folder: Folder, name: str, data: bytes) -> None:
    """What `Folder` never does."""
    if folder.local is not None:
        (folder.local / name).write_bytes(data)
    else:
        folder._fs.pipe({f"{folder._root}/{name}": data})


def copy_to(folder: Folder, target: Path) -> Path:
    for name, data in stored_files(folder).items():
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_bytes(data)
    return target
