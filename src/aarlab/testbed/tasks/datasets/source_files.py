"""Get the source files of a named set, from the network or from a local copy, checked by sha256.

Covered: a file that was changed or damaged on the way or on disk, an interrupted download (files
that came whole are kept), a server that sends without end. Not covered: a server that forges a file
of the same SHA-256.
"""

import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path, PurePosixPath
from urllib.parse import quote

import httpx

from aarlab.core.errors import BadInput, Damaged, NotFound, Unreachable
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.testbed.tasks.datasets.named import NamedSet

ATTEMPTS, WAIT_S, TIMEOUT_S = 3, 1.0, 30.0
MAX_BYTES = 64 * 2**20
SHOWN = 3  # missing files that an error names
Counted = Callable[[Iterable[str]], Iterable[str]]


def wanted_files(spec: NamedSet) -> dict[str, str]:
    """Return the sha256 of the set's files and its licence, by path in the repository."""
    return {**spec.source.licence_file, **spec.files}


def downloaded(
    name: str, spec: NamedSet, base_url: str, cache: Path, counted: Counted = iter
) -> dict[str, bytes]:
    """Return all files of a set by path, from `cache` or else from the network.

    `counted` sees each path as it comes. Raises Unreachable with what to do without a network, and
    Damaged for a file that is not the pinned one.
    """
    source, found = spec.source, dict[str, bytes]()
    kept = cache / source.repo / source.commit
    with httpx.Client(timeout=TIMEOUT_S, follow_redirects=True) as client:
        for path in counted(wanted_files(spec)):
            expected, place = wanted_files(spec)[path], kept / path
            raw = _kept(place, expected)
            if raw is None:
                url = f"{base_url.rstrip('/')}/{source.repo}/{source.commit}/{quote(path)}"
                raw = _get(
                    client,
                    url,
                    path,
                    f"{source.clone}, then aarlab task fetch {name} --from FOLDER --out OUT",
                )
                if (got := sha256_hex(raw)) != expected:
                    raise Damaged(
                        f"{path} of {source.repo}: expected sha256 {expected}, got {got} from "
                        f"{httpx.URL(url).host}; nothing was written. Run the same command again; "
                        "if it stays, this server sends another file"
                    )
                place.parent.mkdir(parents=True, exist_ok=True)
                write_atomic(place, raw)
            found[path] = raw
    return found


def local_files(name: str, spec: NamedSet, folder: Path) -> dict[str, bytes]:
    """Return all files of a set by path, from a copy of the repository or of its folder of rows.

    The licence file is left out where it is not there. Raises NotFound for missing files, Damaged
    for changed ones.
    """
    source = spec.source
    if not folder.is_dir():
        what = "is a file; --from takes a folder" if folder.exists() else "is not there"
        raise NotFound(f"{folder} {what}: a copy of {source.repo}, or a finished folder")
    places = {path: folder / path for path in wanted_files(spec)}
    if not any(places[path].is_file() for path in spec.files):
        places |= {path: folder / PurePosixPath(path).name for path in spec.files}
    missing = [path for path in spec.files if not places[path].is_file()]
    if missing:
        raise NotFound(
            f"{folder} lacks {len(missing)} of the {len(spec.files)} files of {name}: "
            f"{_first(missing)}. --from takes a copy of {source.repo} "
            f"({source.clone}) or a finished folder with train_label, train_unlabel and test"
        )
    found, changed = dict[str, bytes](), list[str]()
    for path, expected in wanted_files(spec).items():
        is_licence = path in source.licence_file
        if is_licence and not places[path].is_file():
            continue
        raw = _read(places[path])
        if sha256_hex(raw) == expected:
            found[path] = raw
        elif not is_licence:
            changed.append(path)
    if changed:
        first = changed[0]
        raise Damaged(
            f"{folder}: {len(changed)} of {len(spec.files)} files are not those of {source.repo} "
            f"at {source.commit[:12]}: {_first(changed)} ({first}: expected sha256 "
            f"{spec.files[first]}, found {sha256_hex(_read(places[first]))}). Take that commit "
            f"and unchanged line ends: {source.clone}"
        )
    return found


def _first(paths: Sequence[str]) -> str:
    """Name the first few paths and count the others."""
    more = f" and {len(paths) - SHOWN} more" if len(paths) > SHOWN else ""
    return ", ".join(paths[:SHOWN]) + more


def _read(path: Path) -> bytes:
    if path.stat().st_size > MAX_BYTES:
        raise BadInput(f"{path}: over {MAX_BYTES >> 20} MiB, which no file of this set has")
    return path.read_bytes()


def _kept(path: Path, sha256: str) -> bytes | None:
    """Return an earlier download, or None where there is none or it was changed."""
    if not path.is_file() or path.stat().st_size > MAX_BYTES:
        return None
    raw = path.read_bytes()
    return raw if sha256_hex(raw) == sha256 else None


def _get(client: httpx.Client, url: str, path: str, instead: str) -> bytes:
    """Return the file at a URL; tries again after a failure that may pass."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _received(client, url)
        except httpx.HTTPStatusError as error:
            code = error.response.status_code
            reason, passes = f"HTTP status {code}", code == 429 or code >= 500
        except httpx.HTTPError as error:
            reason, passes = str(error) or type(error).__name__, True
        if not passes or attempt == ATTEMPTS:
            break
        time.sleep(WAIT_S * 2 ** (attempt - 1))
    raise Unreachable(
        f"cannot download {path} from {httpx.URL(url).host} ({reason}); nothing was written, and "
        "files that came whole are kept. Check the network and HTTPS_PROXY and run the same "
        f"command again. Without a network, on a machine that has one: {instead}"
    )


def _received(client: httpx.Client, url: str) -> bytes:
    with client.stream("GET", url) as answer:
        answer.raise_for_status()
        parts, size = list[bytes](), 0
        for part in answer.iter_bytes():
            parts.append(part)
            size += len(part)
            if size > MAX_BYTES:
                raise Damaged(
                    f"{answer.url.host} sends over {MAX_BYTES >> 20} MiB for one file; "
                    "nothing was written"
                )
        return b"".join(parts)
