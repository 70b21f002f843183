"""An AAR's folder seen from outside: who owns it, and files in and out without being led astray.

Covered: symbolic links anywhere in a path (each component is opened relative to its parent's
descriptor, following none), `..`, FIFOs and other special files, files over a size, half-written
files. Names that are not UTF-8 or too long. Removing a tree that is too deep for the stack. Folders
that an AAR closed to its own uid, the workspace itself among them: they are opened again, and one
that it keeps closing counts as a full disk.
Not covered: a hard link to a file that the same uid may already read.
"""

import contextlib
import errno
import logging
import os
import secrets
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from aarlab.core.errors import BadInput, NotFound
from aarlab.core.hashing import sha256_hex
from aarlab.sandbox.spec import SandboxSpec

LOG = logging.getLogger("aarlab.sandbox")
FIRST_UID, LAST_AAR = 61_000, 3_999  # uids of AARs: FIRST_UID and the following ones
AARS, VERIFIERS = range(2000), range(2000, 3000)  # what their numbers are taken from
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_ENTRY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_LOOK, _CHANGE = 0o500, 0o700  # what this process needs of a folder's mode where it is its owner
_BLOCK = 4096
MAX_DEPTH = 64
_NO_FOLDER = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP})
# Faults of the machine, which no content of a workspace stands for.
OF_THE_MACHINE = frozenset(
    {*(errno.ENOSPC, errno.EDQUOT, errno.EIO), *(errno.EMFILE, errno.ENFILE, errno.ENOMEM)}
)


class WorkspaceState(BadInput):
    """What lies in a workspace cannot be read, written or used: the fault of what ran there."""


class DiskUse(NamedTuple):
    """Bytes and entries below a folder; `deep` where folders are nested deeper than MAX_DEPTH."""

    n_bytes: int
    n_entries: int
    deep: bool = False


FULL = DiskUse(sys.maxsize, sys.maxsize)


def aar_uid(index: int) -> int | None:
    """Return the uid of the AAR number `index` (from 0) where this process is root, else None."""
    if not 0 <= index <= LAST_AAR:
        raise BadInput(f"AAR number {index}: uids are reserved for 0 to {LAST_AAR}")
    return FIRST_UID + index if os.geteuid() == 0 else None


def campaign_uid(run: Path, number: int, numbers: range) -> int | None:
    """Return the uid of a campaign's AAR or verifier `number` (from 0), None if this is not root.

    Campaigns begin at places drawn from their folders: two on one machine hardly ever share a uid,
    and with it the limit of its processes.
    """
    if not 0 <= number < len(numbers):
        raise BadInput(f"number {number}: a campaign has uids for 0 to {len(numbers) - 1}")
    drawn = int(sha256_hex(str(run.absolute()))[:8], 16)
    return aar_uid(numbers[(drawn + number) % len(numbers)])


def prepare_workspace(path: Path, uid: int | None) -> None:
    """Make the folder, or take it over: mode 700, owned by `uid`."""
    with contextlib.suppress(FileExistsError):  # a link or a file: refused below
        path.mkdir(parents=True, exist_ok=True)
    with _opened(path, _CHANGE) as folder:
        os.fchmod(folder, 0o700)
        if uid is not None:
            os.fchown(folder, uid, uid)


def require_workspace(folder: Path) -> None:
    """Raise NotFound where there is no such folder, WorkspaceState where it cannot be used.

    A folder that its own AAR has closed is opened again.
    """
    with _opened(folder, _CHANGE) as handle:
        mode = stat.S_IMODE(os.fstat(handle).st_mode)
        if mode & _CHANGE != _CHANGE:  # root may enter it, but not the uid that runs in it
            os.fchmod(handle, mode | _CHANGE)


def disk_use(folder: Path) -> DiskUse:
    """Measure what is below a folder, an entry as at least one block, whatever state it is in.

    A folder that is gone holds nothing. FULL stands for one that cannot be measured: kept closed,
    moved about meanwhile in its depths, or not a folder any more.
    """
    try:
        with _opened(folder, _LOOK) as root:
            return _measured(root)
    except NotFound:
        return DiskUse(0, 0)
    except (BadInput, PermissionError):
        return FULL


class _Level(NamedTuple):
    """A folder: its device and inode, what its entries take, and the folders among them."""

    known_as: tuple[int, int]
    n_bytes: int
    n_entries: int
    folders: list[str]


def _listed(folder: int) -> _Level:
    n_bytes = n_entries = 0
    folders: list[str] = []
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):
                n_bytes += max(entry.stat(follow_symlinks=False).st_blocks * 512, _BLOCK)
                n_entries += 1
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.name)
    facts = os.fstat(folder)
    return _Level((facts.st_dev, facts.st_ino), n_bytes, n_entries, folders)


def _measured(folder: int, depth: int = 0) -> DiskUse:
    """Return what is below an open folder; raises OSError for one that stays closed."""
    level = _listed(folder)
    n_bytes, n_entries, deep = level.n_bytes, level.n_entries, False
    for name in level.folders:
        if (below := _entered(name, folder)) is None:
            continue
        try:
            found = _measured(below, depth + 1) if depth < MAX_DEPTH else _measured_deep(below)
        finally:
            os.close(below)
        n_bytes, n_entries = n_bytes + found.n_bytes, n_entries + found.n_entries
        deep = deep or found.deep
    return DiskUse(n_bytes, n_entries, deep)


def _measured_deep(top: int) -> DiskUse:
    """Return what is below a folder with one descriptor at any depth: the way back up is "..".

    Raises WorkspaceState where that leads elsewhere: a folder was moved meanwhile.
    """
    here = os.dup(top)
    try:
        way = [_listed(here)]
        n_bytes, n_entries = way[0].n_bytes, way[0].n_entries
        while way:
            if way[-1].folders:
                if (there := _entered(way[-1].folders.pop(), here)) is None:
                    continue
                os.close(here)
                here = there
                way.append(_listed(here))
                n_bytes, n_entries = n_bytes + way[-1].n_bytes, n_entries + way[-1].n_entries
                continue
            way.pop()
            if way:
                there = os.open("..", _FOLDER, dir_fd=here)
                os.close(here)
                here = there
                facts = os.fstat(here)
                if (facts.st_dev, facts.st_ino) != way[-1].known_as:
                    raise WorkspaceState("a folder was moved while it was measured")
    finally:
        os.close(here)
    return DiskUse(n_bytes, n_entries, deep=True)


def _entered(name: str, parent: int) -> int | None:
    """Return a folder's descriptor for looking at it, None where it is gone."""
    try:
        return _open_folder(name, parent, _LOOK)
    except OSError as error:
        if error.errno in _NO_FOLDER:
            return None
        raise


def remove_tree(folder: Path) -> None:
    """Remove what is below a folder in which no program runs any more, and itself.

    It is fine if the folder is not there. Folders are moved up next to each other and emptied one
    by one: the stack and the open descriptors do not grow with the depth. A link or a file in the
    folder's place is removed as such. Raises OSError for what cannot be removed.
    """
    try:
        top = _open_folder(folder, None, _CHANGE)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno not in _NO_FOLDER:
            raise
        folder.unlink()
        return
    try:
        while names := os.listdir(top):
            for name in names:
                _take_apart(top, name)
    finally:
        os.close(top)
    folder.rmdir()


def discard_tree(folder: Path) -> None:
    """Remove a tree as `remove_tree` does; what cannot be removed is logged and stays."""
    try:
        remove_tree(folder)
    except OSError as error:
        LOG.warning("%s could not be removed and stays: %s", folder, error)


def _take_apart(top: int, name: str) -> None:
    """Remove an entry, a folder's own folders excepted: those come up next to it."""
    if not stat.S_ISDIR(os.stat(name, dir_fd=top, follow_symlinks=False).st_mode):
        os.unlink(name, dir_fd=top)
        return
    below = _open_folder(name, top, _CHANGE)
    try:
        with os.scandir(below) as entries:
            inner = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        for entry_name, is_folder in inner:
            if is_folder:
                os.close(_open_folder(entry_name, below, _CHANGE))  # else it cannot be moved
                os.rename(entry_name, secrets.token_hex(12), src_dir_fd=below, dst_dir_fd=top)
            else:
                os.unlink(entry_name, dir_fd=below)
    finally:
        os.close(below)
    os.rmdir(name, dir_fd=top)


def survey(
    folder: Path, skip: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
    """Yield every entry below a workspace that is no folder, following no link.

    Folders that `skip` names are left out, and so are those that stay closed or lie below
    MAX_DEPTH. Raises NotFound or WorkspaceState for a workspace that cannot be opened.
    """
    with _opened(folder, _LOOK) as root:
        yield from _surveyed(root, PurePosixPath(), skip)


def _surveyed(
    folder: int, path: PurePosixPath, skip: Callable[[PurePosixPath], bool]
) -> Iterator[tuple[PurePosixPath, os.stat_result]]:
    with os.scandir(folder) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        here = path / entry.name
        if not entry.is_dir(follow_symlinks=False):
            with contextlib.suppress(FileNotFoundError):
                yield here, entry.stat(follow_symlinks=False)
            continue
        if skip(here) or len(here.parts) > MAX_DEPTH:
            continue
        try:
            below = _entered(entry.name, folder)
        except PermissionError:
            continue
        if below is None:
            continue
        try:
            yield from _surveyed(below, here, skip)
        finally:
            os.close(below)


def copy_in(
    spec: SandboxSpec, files: Mapping[str, bytes], modes: Mapping[str, int] | None = None
) -> None:
    """Write files at paths relative to the workspace, each in one step, owned by the sandbox's uid.

    A file has mode 600 where `modes` does not say another.

    A symbolic link that lies at a target is replaced. Raises NotFound without a workspace,
    WorkspaceState for a link on the way, a folder at a target or a name that is too long.
    """
    paths = {name: _checked(name) for name in files}
    uid = spec.uid if spec.isolated else None
    with _opened(spec.workspace, _CHANGE) as root:
        for name, path in paths.items():
            with _refusing(path), _parent(root, path, _CHANGE, make=True, make_for=uid) as folder:
                _write(folder, path.name, files[name], uid, (modes or {}).get(name, 0o600))


def copy_out(spec: SandboxSpec, relative_path: str, max_bytes: int) -> bytes:
    """Return a regular file of the workspace.

    Raises NotFound, or WorkspaceState for a link, a special, a closed or a larger file.
    """
    path = _checked(relative_path)
    with _opened(spec.workspace, _LOOK) as root, _parent(root, path, _LOOK) as folder:
        return _read(folder, path, max_bytes)


def copy_out_tree(
    spec: SandboxSpec, relative_path: str, max_files: int, max_bytes: int
) -> dict[str, bytes]:
    """Return all regular files below a folder of the workspace, by path relative to it.

    Raises NotFound, or WorkspaceState for a link, a special or closed file, a name that is not
    UTF-8, too many files or bytes in total.
    """
    top = PurePosixPath() if relative_path == "." else _checked(relative_path)
    found: dict[str, bytes] = {}
    with _opened(spec.workspace, _LOOK) as root, _parent(root, top / "x", _LOOK) as folder:
        for path in _regular_files(folder, max_files):
            _check_text(path)
            left = max_bytes - sum(map(len, found.values()))
            with _parent(folder, path, _LOOK) as inner:
                found[str(path)] = _read(inner, path, left)
    return found


def _check_text(path: PurePosixPath) -> None:
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise WorkspaceState(f"{str(path)!a}: the name is not UTF-8; rename the file") from None


def _checked(name: str) -> PurePosixPath:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.parts or "\0" in name:
        raise BadInput(f"{name!r}: use a path relative to the workspace, without '..'")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise BadInput(f"{name!a}: no file can have this name; use another") from None
    return path


@contextlib.contextmanager
def _refusing(path: PurePosixPath) -> Iterator[None]:
    """Say of an error that the workspace caused, and of no other, that it is so."""
    try:
        yield
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise
        raise WorkspaceState(
            f"{str(path)[:300]!r} cannot be written in the workspace: {error.strerror}"
        ) from error


def _open_folder(name: str | Path, parent: int | None, need: int) -> int:
    """Return a folder's descriptor, reached without following a link.

    Where this process is its owner and not root, the folder gets the rights `need`. Raises OSError:
    one of _NO_FOLDER if it is not a folder, PermissionError where it stays closed.
    """
    try:
        handle = os.open(name, _FOLDER, dir_fd=parent)
    except PermissionError:
        entry = os.open(name, _ENTRY, dir_fd=parent)
        try:
            mode = stat.S_IMODE(os.fstat(entry).st_mode)
            os.chmod(f"/proc/self/fd/{entry}", mode | need)
        finally:
            os.close(entry)
        handle = os.open(name, _FOLDER, dir_fd=parent)
    try:
        facts = os.fstat(handle)
        if os.geteuid() == facts.st_uid and facts.st_mode & need != need:
            os.fchmod(handle, stat.S_IMODE(facts.st_mode) | need)
    except BaseException:
        os.close(handle)
        raise
    return handle


@contextlib.contextmanager
def _opened(folder: Path, need: int) -> Iterator[int]:
    try:
        handle = _open_folder(folder, None, need)
    except FileNotFoundError as error:
        raise NotFound(f"there is no workspace at {folder}") from error
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise
        raise WorkspaceState(
            f"the workspace {folder} is not a folder that can be opened: {error.strerror}"
        ) from error
    try:
        yield handle
    finally:
        os.close(handle)


@contextlib.contextmanager
def _parent(
    root: int, path: PurePosixPath, need: int, make: bool = False, make_for: int | None = None
) -> Iterator[int]:
    """Yield a descriptor of the folder that holds `path`, reached without following a link."""
    handle = os.dup(root)
    try:
        for part in path.parts[:-1]:
            if make:
                _make_folder(handle, part, make_for)
            try:
                below = _open_folder(part, handle, need)
            except FileNotFoundError as error:
                raise NotFound(f"no folder {path.parent} in the workspace") from error
            except OSError as error:
                if error.errno in OF_THE_MACHINE:
                    raise
                raise WorkspaceState(
                    f"{path}: {part!r} is a link, closed or not a folder; refused"
                ) from error
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


def _write(folder: int, name: str, content: bytes, uid: int | None, mode: int) -> None:
    temporary = f".{secrets.token_hex(8)}.part"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    handle = os.open(temporary, flags, 0o600, dir_fd=folder)
    try:
        with os.fdopen(handle, "wb") as out:
            out.write(content)
            os.fchmod(out.fileno(), mode)
            if uid is not None:
                os.fchown(out.fileno(), uid, uid)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException as error:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary, dir_fd=folder)
        if isinstance(error, IsADirectoryError):
            raise WorkspaceState(
                f"{name!r} is a folder in the workspace; nothing written"
            ) from error
        raise


def _read(folder: int, path: PurePosixPath, max_bytes: int) -> bytes:
    # Without O_NONBLOCK, opening a planted FIFO would wait for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(path.name, flags, dir_fd=folder)
    except FileNotFoundError as error:
        raise NotFound(f"no file {path} in the workspace") from error
    except OSError as error:
        if error.errno in OF_THE_MACHINE:
            raise
        raise WorkspaceState(
            f"{path} is a link or cannot be opened; refused ({error.strerror})"
        ) from error
    if not stat.S_ISREG(os.fstat(handle).st_mode):
        os.close(handle)
        raise WorkspaceState(f"{path} is not a regular file; refused")
    with os.fdopen(handle, "rb") as source:
        content = source.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise WorkspaceState(f"{path} is larger than the {max_bytes} bytes that are left for it")
    return content


def _regular_files(folder: int, max_files: int) -> list[PurePosixPath]:
    """Return paths of all entries but folders, sorted."""
    found: list[PurePosixPath] = []
    for path, entry in _walk(folder, PurePosixPath()):
        if not entry.is_dir(follow_symlinks=False):
            found.append(path)
        if len(found) > max_files:
            raise WorkspaceState(f"more than {max_files} files; keep the folder small")
    return sorted(found)


def _walk(
    folder: int, path: PurePosixPath, depth: int = 0
) -> Iterator[tuple[PurePosixPath, "os.DirEntry[str]"]]:
    """Yield every entry below an open folder, following no link.

    Entries that vanish meanwhile are left out. Raises WorkspaceState below MAX_DEPTH and for a
    folder that stays closed.
    """
    if depth > MAX_DEPTH:
        raise WorkspaceState(f"folders are nested deeper than {MAX_DEPTH}; flatten them")
    with os.scandir(folder) as entries:
        for entry in entries:
            yield path / entry.name, entry
            if not entry.is_dir(follow_symlinks=False):
                continue
            try:
                below = _entered(entry.name, folder)
            except PermissionError as error:
                raise WorkspaceState(f"{str(path / entry.name)!a}: a closed folder") from error
            if below is None:
                continue
            try:
                yield from _walk(below, path / entry.name, depth + 1)
            finally:
                os.close(below)
