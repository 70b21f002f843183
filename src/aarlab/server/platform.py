"""What the routes and services of one server share."""

import asyncio
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

from fastapi import Request

from aarlab.core.platform_tools import ExtraTool
from aarlab.core.scoring import Scoring
from aarlab.server.middleware import Pace, SharedPace
from aarlab.server.settings import ServerSettings
from aarlab.server.steering import Steering
from aarlab.store.aars import Access
from aarlab.store.blobs import Folder
from aarlab.store.database import Database
from aarlab.store.repository import SnapshotRepo
from aarlab.testbed.tasks.task import PublicTask


class Store(NamedTuple):
    """`files` is the folder in which the blobs of AARs are, a folder each."""

    database: Database
    snapshots: SnapshotRepo
    files: Folder


class Known(NamedTuple):
    """What a token opened when it was looked up. `until` is a time of the monotonic clock."""

    access: Access
    until: float


@dataclass
class Mirror:
    """The manifest of an AAR whose files are in the run's folder.

    `pending` are blobs that came, or may be put, and that no manifest names yet, with their bytes.
    """

    writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    seq: int = 0
    home: dict[str, str] = field(default_factory=dict)
    pending: dict[str, int] = field(default_factory=dict)
    pending_bytes: int = 0

    def named(self) -> None:
        """Note that all blobs that are wanted belong to a manifest now."""
        self.pending, self.pending_bytes = {}, 0


@dataclass(frozen=True)
class RunSlot:
    """One method run at a time per server; `closed` ends the current one."""

    free: asyncio.Lock = field(default_factory=asyncio.Lock)
    closed: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Platform:
    settings: ServerSettings
    store: Store
    scorer: Scoring
    operator_token: str = field(repr=False)
    pace: Pace
    requests: SharedPace
    posts: SharedPace
    steering: Steering
    # By the hash of the token, for moments only: another server may have revoked it.
    known: dict[str, Known] = field(default_factory=dict, repr=False)
    # The newest life of each AAR that this server began, so that reads of older ones are refused.
    lives: dict[str, int] = field(default_factory=dict)
    # Public rows of development tasks, read on first request.
    opened: dict[str, PublicTask] = field(default_factory=dict, repr=False)
    runs: RunSlot = field(default_factory=RunSlot)
    # What this server wrote last of what each AAR keeps, and how much came since (service.kept).
    mirrors: dict[str, Mirror] = field(default_factory=dict)
    # SHA-256 of files that verification pods are given, by path and state (service.verifiers).
    hashed: dict[tuple[str, int, int], str] = field(default_factory=dict)
    # Tools of installed packages, by name.
    extras: dict[str, ExtraTool] = field(default_factory=dict)


async def platform_of(request: Request) -> Platform:
    """Return the app's platform.

    It is async although it does not wait: FastAPI hands other functions to a thread.
    """
    platform: Platform = request.app.state.platform
    return platform
