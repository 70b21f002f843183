"""An AAR's folder seen from outside: who owns it, and files in and out without being led astray.

Covered: symbolic links anywhere in a path (each component is opened relative to its parent's
descriptor, following none), `..`, FIFOs and other special files, files over a size, half-written
files; names that are no UTF-8; removing a tree that is too deep for the stack.
Not covered: a hard link to a file that the same uid may already read; disk used in folders that an
AAR closed to its own uid, where this process is not root.
"""

import contextlib
import os
import secrets
import stat
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from aarlab.core.canonical import sha256_hex
from aarlab.core.errors import BadInput, NotFound
from aarlab.sandbox.spec import SandboxSpec

FIRST_UID, LAST_UID = 61_000, 64_999
AARS, VERIFIERS = range(2000), range(2000, 3000)  # what their numbers are taken from
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_BLOCK = 4096
MAX_DEPTH = 64


def aar_uid(index: int) -> int | None:
    """The uid of the AAR number `index` (from 0) where this process is root, else None."""
    if not 0 <= index <= LAST_UID - FIRST_UID:
        raise BadInput(f"AAR number {index}: uids are reserved for 0 to {LAST_UID - FIRST_UID}")
    return FIRST_UID + index if os.geteuid() == 0 else None


def campaign_uid(run: Path, number: int, numbers: range) -> int | None:
    """The uid of a campaign's AAR or verifier `number` (from 0), None where this is not root.

    Campaigns begin at places drawn from their folders: two on one machine hardly ever share a uid,
    and with it the limit of its processes.
    """
    if not 0 <= number < len(numbers):
        raise BadInput(f"number {number}: a campaign has uids for 0 to {len(numbers) - 1}")
    drawn = int(sha256_hex(str(run.absolute()))[:8], 16)
    return aar_uid(numbers[(drawn + number) % len(numbers)])


def prepare_workspace(path: Path, uid: int | None) -> None:
    """Make the folder, or take it over: mode 700, owned by `uid`."""
    path.mkdir(parents=True, exist_ok=True)
    with _opened(path) as folder:
        os.fchmod(folder, 0o700)
        if uid is not None:
            os.fchown(folder, uid, uid)


def disk_bytes(folder: Path) -> int:
    """Disk used below a folder, at least one block an entry.

    A folder that is too deep to be walked counts as full (sys.maxsize).
    """
    used = 0
    with _opened(folder) as root:
        try:
            for _path, entry in _walk(root, PurePosixPath()):
                with contextlib.suppress(FileNotFoundError):
                    used += max(entry.stat(follow_symlinks=False).st_blocks * 512, _BLOCK)
        except BadInput:
            return sys.maxsize
    return used


def remove_tree(folder: Path) -> None:
    """Remove what is below a folder in which nothing runs any more, and itself; fine if not there.

    Folders are moved up beside each other and emptied one by one: neither the stack nor the open
    descriptors grow with the depth. Raises OSError for what cannot be removed.
    """
    try:
        with _opened(folder) as top:
            while names := os.listdir(top):
                for name in names:
                    _take_apart(top, name)
    except NotFound:
        return
    folder.rmdir()


def _take_apart(top: int, name: str) -> None:
    """Remove an entry, a folder's own folders excepted: those come up beside it."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    os.chmod(name, 0o700, dir_fd=top)
    below = os.open(name, _FOLDER, dir_fd=top)
    try:
        with os.scandir(below) as entries:
            inner = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_folder in inner:
            if is_folder:
                os.chmod(entry_name, 0o700, dir_fd=below)  # one that is closed cannot be moved
                os.rename(entry_name, secrets.token_hex(12), src_dir_fd=below, dst_dir_fd=top)
            else:
                os.unlink(entry_name, dir_fd=below)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=top)


def copy_in(spec: SandboxSpec, files: Mapping[str, bytes]) -> None:
    """Write files at paths relative to the workspace, each in one step, owned by the sandbox's uid.

    A symbolic link that lies at a target is replaced, one on the way to it raises BadInput.
    """
    paths = {name: _checked(name) for name in files}
    uid = spec.uid if spec.isolated else None
    with _opened(spec.workspace) as root:
        for name, path in paths.items():
            with _parent(root, path, make_for=uid, make=True) as folder:
                _write(folder, path.name, files[name], uid)


def copy_out(spec: SandboxSpec, relative_path: str, max_bytes: int) -> bytes:
    """A regular file of the workspace. Raises NotFound; BadInput for a link or a larger file."""
    path = _checked(relative_path)
    with _opened(spec.workspace) as root, _parent(root, path) as folder:
        return _read(folder, path, max_bytes)


def copy_out_tree(
    spec: SandboxSpec, relative_path: str, max_files: int, max_bytes: int
) -> dict[str, bytes]:
    """All regular files below a folder of the workspace, by path relative to it.

    Raises NotFound, or BadInput for a link, a special file, a name that is no UTF-8, too many
    files or bytes in total.
    """
    top = PurePosixPath() if relative_path == "." else _checked(relative_path)
    found: dict[str, bytes] = {}
    with _opened(spec.workspace) as root, _parent(root, top / "x") as folder:
        for path in _regular_files(folder, max_files):
            _check_text(path)
            left = max_bytes - sum(map(len, found.values()))
            with _parent(folder, path) as inner:
                found[str(path)] = _read(inner, path, left)
    return found


def _check_text(path: PurePosixPath) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise BadInput(f"{str(path)!a}: the name is no UTF-8; rename the file") from None


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise BadInput(f"{name!r}: use a path relative to the workspace, without '..'")
    return path


@contextlib.contextmanager
def _opened(folder: Path) -> Iterator[int]:
    try:
        handle = os.open(folder, _FOLDER)
    except FileNotFoundError as error:
        raise NotFound(f"there is no workspace at {folder}") from error
    except OSError as error:
        raise BadInput(f"the workspace {folder} is not a folder: {error.strerror}") from error
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _parent(
    root: int, path: PurePosixPath, make_for: int | None = None, make: bool = False
) -> Iterator[int]:
    """A descriptor of the folder that holds `path`, reached without following a link."""
    handle = os.dup(root)
    try:
        for part in path.parts[:-1]:
            if make:
                _make_folder(handle, part, make_for)
            try:
                below = os.open(part, _FOLDER, dir_fd=handle)
            except FileNotFoundError as error:
                raise NotFound(f"no folder {path.parent} in the workspace") from error
            except OSError as error:
                raise BadInput(f"{path}: {part!r} is a link or not a folder; refused") from error
            os.close(handle)
            handle = below
        yield handle
    finally:
        os.close(handle)


def _make_folder(parent: int, name: str, uid: int | None) -> None:
    try:
        os.mkdir(name, 0o700, dir_fd=parent)
    except FileExistsError:
        return
    if uid is not None:
        os.chown(name, uid, uid, dir_fd=parent, follow_symlinks=False)


def _write(folder: int, name: str, content: bytes, uid: int | None) -> None:
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            if uid is not None:
                os.fchown(out.fileno(), uid, uid)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        if isinstance(error, IsADirectoryError):
            raise BadInput(f"{name!r} is a folder in the workspace; nothing written") from error
        raise


def _read(folder: int, path: PurePosixPath, max_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a planted FIFO would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError as error:
        raise NotFound(f"no file {path} in the workspace") from error
    except OSError as error:
        raise BadInput(
            f"{path} is a link or cannot be opened; refused ({error.strerror})"
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise BadInput(f"{path} is not a regular file; refused")
    with os.fdopen(handle, "rb") as source:
        content = source.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise BadInput(f"{path} is larger than the {max_bytes} bytes that are left for it")
    return content


def _regular_files(folder: int, max_files: int) -> list[PurePosixPath]:
    """Paths of all entries but folders, sorted."""
    found: list[PurePosixPath] = []
    for path, entry in _walk(folder, PurePosixPath()):
        if not entry.is_dir(follow_symlinks=False):
            found.append(path)
        if len(found) > max_files:
            raise BadInput(f"more than {max_files} files; keep the folder small")
    return sorted(found)


def _walk(
    folder: int, path: PurePosixPath, depth: int = 0
) -> Iterator[tuple[PurePosixPath, "os.DirEntry[str]"]]:
    """Every entry below an open folder, following no link; BadInput below MAX_DEPTH.

    Entries that vanish meanwhile or may not be read are left out.
    """
    if depth > MAX_DEPTH:
        raise BadInput(f"folders are nested deeper than {MAX_DEPTH}; flatten them")
    with os.scandir(folder) as entries:
        for entry in entries:
            yield path / entry.name, entry
            if not entry.is_dir(follow_symlinks=False):
                continue
            try:
                below = os.open(entry.name, _FOLDER, dir_fd=folder)
            except OSError:
                continue
            try:
                yield from _walk(below, path / entry.name, depth + 1)
            finally:
                os.close(below)
