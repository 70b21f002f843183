"""An AAR's state on the platform, for machines that may be lost and share no folder.

The order is the contract: blobs, then a manifest that names them, then the effect that depends on
them: a model call, a write to the platform, the command of a tool. Only what a later life would not
make again as it was asks for a manifest (`touch`), so that a turn has two at most in general: one
with the model's answer, before it is recorded, and one with the results of its commands.

A life that begins elsewhere gets an empty folder and continues from the newest manifest. All that
was done since is done again from the same state: commands in a workspace that is as it was then,
writes to the platform under the same key. So nothing is doubled, and the call in flight alone is
asked twice. On a machine on which the life before was, its folder is at least as new, and stays.

Covered: `kill -9` at any line; a copy of an AAR that lives on out of sight, whose manifests are
refused. Not kept: see SKIPPED and `core.wire_kept`; links, empty folders, what a running command
writes between two manifests; device seconds of a command that was under way.
"""

import logging
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import takewhile
from pathlib import Path, PurePosixPath

from aarlab.agents.state import LIFE, reopen
from aarlab.client.platform import PlatformClient
from aarlab.core.errors import BadInput, NotFound
from aarlab.core.files import write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.wire_kept import (
    FILE_BYTES,
    KEPT_BYTES,
    LOOP,
    MOST_FILES,
    MOST_LINKS,
    MOST_NAMED,
    PART_BYTES,
    PIECE_BYTES,
    STATES,
    TRANSCRIPT,
    Manifest,
    file_of,
    stretches,
)
from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import (
    WorkspaceState,
    copy_in,
    copy_out,
    prepare_workspace,
    remove_tree,
    survey,
)

LOG = logging.getLogger("aarlab.agents")
FOLDERS = ("answers", "requests", "predictions")
FORUM_CURSOR = "forum.json"  # not kept: the forum is copied into the workspace again
SKIPPED = frozenset({"findings", "scratch", ".cache", ".nv", ".triton"})
WAITING_BYTES = 16 * 2**20  # of blobs that go to the platform together
RACY_S = 2.0  # a file that changed so lately may change again under the same time and size
PRIVATE = 0o600
Known = tuple[int, int, int, int]  # of a file: times of its content and its entry, size, inode


class Keeper:
    """Keeps nothing: the folder is shared, and is there wherever a later life begins."""

    moved: bool = False  # this life continues from a manifest, in a folder that was empty

    def began(self, life: int) -> None:
        """Have the folder of this life, before it is claimed."""

    def lost(self) -> str:
        """Say to the AAR, after it was moved, what of its workspace is gone."""
        return ""

    def touch(self) -> None:
        """Note that something happened that a later life would not do again just so."""

    def before_effect(self) -> None:
        """Keep the state if something happened since it was kept."""

    def keep(self) -> None:
        """Keep the state; raises Superseded if a newer life has begun."""


@dataclass
class PlatformKeeper(Keeper):
    """Keeps one AAR's state on the platform.

    `sandbox` has the workspace; None: it is not kept. `again` says that the AAR is to continue if
    it had ended. `alive` says whether something changes the workspace now. `began` comes first.
    """

    platform: PlatformClient
    home: Path
    sandbox: SandboxSpec | None = None
    again: bool = False
    alive: Callable[[], bool] = lambda: False
    moved: bool = False
    _last: Manifest = field(default_factory=Manifest)
    _there: set[str] = field(default_factory=set)  # blobs that the platform has
    _waiting: dict[str, bytes] = field(default_factory=dict)  # blobs that are still to go there
    _changed: bool = True
    _seen: dict[str, tuple[Known, str]] = field(default_factory=dict)
    _parts: list[str] = field(default_factory=list)  # of the transcript, those that are full
    _busy: threading.Lock = field(default_factory=threading.Lock)

    # ------------------------------------------------------------ a life begins
    def began(self, life: int) -> None:
        """Take the folder as it is if the life before was here; else fill it from the manifest."""
        kept = self.platform.kept()
        if kept.manifest is not None:
            self._last, self._there = kept.manifest, set(kept.manifest.blobs)
        if self._life_here() != life - 1:
            self._empty()
            if kept.manifest is not None:
                LOG.info("continues from what life %d kept", kept.life)
                self._restore(kept.manifest)
                self.moved = True
        state = self.home / "state.json"
        if self.again and state.exists():
            reopen(state)

    def _life_here(self) -> int | None:
        with suppress(OSError, ValueError):
            return int((self.home / LIFE).read_bytes())
        return None

    def _empty(self) -> None:
        """Remove what an older life left here; its number first, so that it is never taken up."""
        for name in (LIFE, *STATES, FORUM_CURSOR, TRANSCRIPT.rstrip("/")):
            (self.home / name).unlink(missing_ok=True)
        for name in FOLDERS:
            remove_tree(self.home / name)
            (self.home / name).mkdir()
        if self.sandbox is not None:
            remove_tree(self.sandbox.workspace)
            prepare_workspace(self.sandbox.workspace, self.sandbox.uid)

    def _restore(self, manifest: Manifest) -> None:
        whole: dict[str, list[str]] = {}
        for name in sorted(manifest.home):
            whole.setdefault(file_of(name), []).append(manifest.home[name])
        for name, parts in whole.items():
            place = self.home / name
            place.parent.mkdir(exist_ok=True)
            mode = 0o644 if name == TRANSCRIPT.rstrip("/") else PRIVATE
            write_atomic(place, b"".join(data for _, data in self._blobs(parts)), mode)
        if self.sandbox is not None:
            paths: dict[str, list[tuple[str, int]]] = {}
            for path, (sha, mode) in manifest.workspace.items():
                paths.setdefault(sha, []).append((path, mode))
            for sha, data in self._blobs(list(paths)):
                for path, mode in paths[sha]:
                    copy_in(self.sandbox, {path: data}, {path: mode})

    def _blobs(self, names: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        for sha, data in self.platform.get_blobs(names):
            if sha256_hex(data) != sha:
                raise BadInput(f"blob {sha} came with other bytes")
            yield sha, data

    def lost(self) -> str:
        names = [f"{path} ({size:,} bytes)" for path, size in sorted(self._last.gone.items())]
        gone = f" These are gone: {', '.join(names)}." if names else ""
        return (
            "[From the platform] You were moved to another machine. Your workspace is as it was "
            f"after the last result that you have.{gone} Never kept are "
            f"{', '.join(sorted(SKIPPED - {'findings'}))} at its top, links, empty folders, and "
            f"files of over {FILE_BYTES // 2**20} MB. Background commands have ended."
        )

    # ------------------------------------------------------------ before an effect
    def touch(self) -> None:
        self._changed = True

    def before_effect(self) -> None:
        if self._changed or self.alive():
            self.keep()

    def keep(self) -> None:
        """Keep the state: blobs, then the manifest. Sends no manifest where nothing is new.

        May be called from several threads.
        """
        with self._busy:
            self._keep()

    def _keep(self) -> None:
        self._changed = True  # also where this is cut off by an error
        self._waiting.clear()
        workspace, gone = self._workspace()
        made = Manifest(home=self._home(), workspace=workspace, gone=gone)
        self._send()
        if made != self._last:
            self.platform.put_manifest(made)
            self._last, self._there = made, set(made.blobs)
        self._changed = False

    def _stored(self, data: bytes) -> str:
        """Have the platform keep these bytes before the next manifest; return their hash."""
        sha = sha256_hex(data)
        if sha not in self._there:
            self._waiting[sha] = data
            full = len(self._waiting) >= MOST_LINKS
            if full or sum(map(len, self._waiting.values())) >= WAITING_BYTES:
                self._send()
        return sha

    def _send(self) -> None:
        self.platform.put_blobs(self._waiting)
        self._there |= self._waiting.keys()
        self._waiting.clear()

    def _home(self) -> dict[str, str]:
        folders = [self.home / name for name in FOLDERS]
        places = [self.home / name for name in STATES]
        places += [path for folder in folders for path in sorted(folder.glob("*.json"))]
        found: dict[str, str] = {}
        for place in places:
            with suppress(FileNotFoundError):
                name, data = str(place.relative_to(self.home)), place.read_bytes()
                if name != LOOP.rstrip("/"):
                    found[name] = self._stored(data)
                    continue
                for number, part in enumerate(stretches(data)):
                    found[f"{LOOP}{number:06d}"] = self._stored(part)
        return found | self._transcript()

    def _transcript(self) -> dict[str, str]:
        """Return the hashes of parts and pieces. Full parts do not change and are read once."""
        place, rest = self.home / TRANSCRIPT.rstrip("/"), b""
        # What was cut off by an error before it was sent is read again.
        self._parts = list(takewhile(self._there.__contains__, self._parts))
        if place.exists():
            with place.open("rb") as file:
                file.seek(len(self._parts) * PART_BYTES)
                while len(rest := file.read(PART_BYTES)) == PART_BYTES:
                    self._parts.append(self._stored(rest))
        found = {f"{TRANSCRIPT}{n:06d}": sha for n, sha in enumerate(self._parts)}
        for number, first in enumerate(range(0, len(rest), PIECE_BYTES)):
            name = f"{TRANSCRIPT}{len(self._parts):06d}.{number:02d}"
            found[name] = self._stored(rest[first : first + PIECE_BYTES])
        return found

    # ------------------------------------------------------------ the workspace
    def _workspace(self) -> tuple[dict[str, tuple[str, int]], dict[str, int]]:
        """Return the files that are kept, and those that are not with the bytes that they have."""
        kept: dict[str, tuple[str, int]] = {}
        gone: dict[str, int] = {}
        seen: dict[str, tuple[Known, str]] = {}
        if self.sandbox is None:
            return kept, gone
        left = KEPT_BYTES - FILE_BYTES  # the rest is for the AAR's own files
        try:
            for path, facts in survey(self.sandbox.workspace, _skipped):
                name, size = str(path), facts.st_size
                fits = stat.S_ISREG(facts.st_mode) and size <= min(FILE_BYTES, left)
                sha = self._hashed(name, facts, seen) if fits and len(kept) < MOST_FILES else None
                if sha is not None:
                    left -= size
                    kept[name] = (sha, stat.S_IMODE(facts.st_mode) & 0o777)
                elif len(gone) < MOST_NAMED:
                    gone[ascii(name)[1:-1][:1000]] = size
        except (NotFound, WorkspaceState) as error:
            LOG.warning("the workspace is kept as it was before: %s", error)
            return self._last.workspace, self._last.gone
        self._seen = seen
        return kept, gone

    def _hashed(
        self, name: str, facts: os.stat_result, seen: dict[str, tuple[Known, str]]
    ) -> str | None:
        """Return a file's hash, read only where it may have changed; None for an unreadable one."""
        assert self.sandbox is not None
        known = (facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino)
        before = self._seen.get(name)
        if before is not None and before[0] == known and before[1] in self._there:
            seen[name] = before
            return before[1]
        try:
            name.encode()
            data = copy_out(self.sandbox, name, FILE_BYTES)
        except (NotFound, WorkspaceState, UnicodeError):
            return None
        sha = self._stored(data)
        if time.time() - facts.st_ctime > RACY_S:
            seen[name] = (known, sha)
        return sha


def _skipped(folder: PurePosixPath) -> bool:
    return len(folder.parts) == 1 and folder.name in SKIPPED
