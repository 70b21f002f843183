"""Files that are written whole and once: in a local folder, or at any fsspec URL such as S3.

A bucket may also be used directly, by links: URLs that are signed for one blob and a few minutes.
Whoever has a link needs no credentials, so links are secrets.

Covered: a reader never sees half a file; equal writers meet; a blob that is not what its name
says is Damaged; credentials in a URL are refused. A link to put a blob is bound to its bytes: the
store refuses a body of another length or SHA-256.
Not covered: who else may write to the bucket; give the platform one of its own.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from copy import copy
from pathlib import Path
from typing import Any

import fsspec

from aarlab.core.errors import BadInput, Damaged, NotFound, Unavailable
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.links import checksum

MODE = 0o600
LINK_S = 300


class Folder:
    """A folder of files that never change. Blocking: call it from a thread in a server."""

    def __init__(self, where: Path | str) -> None:
        self.url = str(where).rstrip("/")
        self.local: Path | None = None
        if "://" not in self.url:
            self.local = Path(self.url).absolute()
            return
        if set(self.url) & set("@*?["):
            raise BadInput(
                "the URL of blobs holds @, *, ? or [: give SCHEME://BUCKET/PREFIX, and credentials "
                "in the variables of the store (AWS_*)"
            )
        try:
            # No listings cache: another server writes to the same place.
            self._fs, self._root = fsspec.url_to_fs(
                self.url, use_listings_cache=False, skip_instance_cache=True, **_options(self.url)
            )
        except (ImportError, ValueError) as error:
            raise BadInput(f"{self.url}: {error}; for S3: pip install 'aarlab[s3]'") from None
        self._failures = _failures(self._fs)

    def sub(self, name: str) -> "Folder":
        """Return a folder in this one, over the same connections."""
        made = copy(self)
        made.url = f"{self.url}/{name}"
        if self.local is not None:
            made.local = self.local / name
        else:
            made._root = self._path(name)
        return made

    def keep(self, files: Mapping[str, bytes]) -> None:
        """Write the files that are missing. The same name must always stand for the same bytes.

        Raises Unavailable where a store does not answer, NotFound where it has no such bucket,
        OSError on a full disk.
        """
        if self.local is None:
            try:
                with self._answering():
                    self._fs.pipe({self._path(name): data for name, data in files.items()})
            except FileNotFoundError:
                raise NotFound(f"{self.url}: its bucket does not exist: make it first") from None
            return
        for name, data in files.items():
            path = self.local / name
            if not path.exists():
                path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_atomic(path, data, MODE)

    def has(self, name: str) -> bool:
        if self.local is not None:
            return (self.local / name).exists()
        with self._answering():
            return bool(self._fs.exists(self._path(name)))

    def read(self, names: Iterable[str]) -> dict[str, bytes]:
        """Return the files by name. Raises NotFound naming one that is missing."""
        wanted = list(names)
        try:
            if self.local is not None:
                return {name: (self.local / name).read_bytes() for name in wanted}
            with self._answering():
                found = self._fs.cat([self._path(name) for name in wanted]) if wanted else {}
        except FileNotFoundError as error:
            raise self._missing(error) from None
        return {name: found[self._path(name)] for name in wanted}

    def sizes(self, names: Iterable[str]) -> dict[str, int]:
        """Return the bytes of each file. Raises NotFound naming one that is missing."""
        wanted = list(names)
        try:
            if self.local is not None:
                found = [(self.local / name).stat().st_size for name in wanted]
            else:
                with self._answering():  # at once: each is a request
                    found = self._fs.sizes([self._path(name) for name in wanted])
        except FileNotFoundError as error:
            raise self._missing(error) from None
        return dict(zip(wanted, found, strict=True))

    def names(self) -> list[str]:
        """Return all files in the folders of this one."""
        if self.local is not None:
            return [f"{path.parent.name}/{path.name}" for path in self.local.glob("*/[!.]*")]
        with self._answering():
            return [path.removeprefix(f"{self._root}/") for path in self._fs.find(self._root)]

    def drop(self, names: Iterable[str]) -> None:
        """Remove files; one that is not there is fine."""
        for name in names:
            if self.local is not None:
                (self.local / name).unlink(missing_ok=True)
                continue
            with self._answering(), suppress(FileNotFoundError):
                self._fs.rm_file(self._path(name))

    def _missing(self, error: FileNotFoundError) -> NotFound:
        return NotFound(f"{self.url} has no file {error.filename or error}")

    @property
    def is_bucket(self) -> bool:
        """Return whether this is a bucket of S3, for which links can be signed."""
        return self.local is None and _is_s3(self._fs)

    def link(self, name: str, **bound: Any) -> str:
        """Return a URL that gets the file for LINK_S seconds; `bound` to put it, and how."""
        method = "put_object" if bound else "get_object"
        with self._answering():  # credentials may come from elsewhere
            url: str = self._fs.url(self._path(name), LINK_S, method, **bound)
        return url

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}"

    @contextmanager
    def _answering(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except self._failures as error:
            kind = type(error).__name__
            if isinstance(error, PermissionError) or "Credentials" in kind:
                raise Unavailable(
                    f"{self.url} refuses its credentials ({kind}): see to the variables of the "
                    "store (AWS_*), and to what they may do there"
                ) from error
            raise Unavailable(f"{self.url} does not answer: {kind}") from error


class Blobs:
    """Bytes by their SHA-256, below one folder."""

    def __init__(self, folder: Folder) -> None:
        self._folder = folder

    def put(self, data: bytes) -> str:
        """Keep the bytes if they are new; return their SHA-256."""
        digest = sha256_hex(data)
        if not self._folder.has(_name(digest)):
            self._folder.keep({_name(digest): data})
        return digest

    def get(self, digest: str) -> bytes:
        """Return a blob. Raises NotFound for an unknown one, Damaged for a changed one."""
        data = self._folder.read([_name(digest)])[_name(digest)]
        if sha256_hex(data) != digest:
            raise Damaged(f"{self._folder.url}: blob {digest} was changed: restore it")
        return data

    def sizes(self, digests: Iterable[str]) -> dict[str, int]:
        """Return the bytes of each blob. Raises NotFound naming one that is missing."""
        found = self._folder.sizes(_name(digest) for digest in digests)
        return {name.replace("/", ""): size for name, size in found.items()}

    def link_to_put(self, digest: str, n_bytes: int) -> str:
        """Return a URL to which exactly these bytes may be put, with the header of their hash."""
        bound = {"ContentLength": n_bytes, "ChecksumSHA256": checksum(digest)}
        return self._folder.link(_name(digest), **bound)

    def link_to_get(self, digest: str) -> str:
        return self._folder.link(_name(digest))

    def all(self) -> set[str]:
        return {name.replace("/", "") for name in self._folder.names()}

    def drop(self, digests: Iterable[str]) -> None:
        self._folder.drop(_name(digest) for digest in digests)


def _name(digest: str) -> str:
    if len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise BadInput(f"{digest[:70]!r} is not a SHA-256 in hex")
    return f"{digest[:2]}/{digest[2:]}"


def _is_s3(store: Any) -> bool:
    return "s3" in store.protocol


def _options(url: str) -> dict[str, Any]:
    """Return options of a store. By default botocore signs links of S3 in a way that binds less."""
    if not url.startswith("s3:"):
        return {}
    return {"config_kwargs": {"signature_version": "s3v4"}}


def _failures(store: Any) -> tuple[type[Exception], ...]:
    """Return what a store raises when it does not answer."""
    if not _is_s3(store):
        return (OSError,)
    from botocore.exceptions import BotoCoreError  # with the extra `s3`

    return (OSError, BotoCoreError)
