"""What the routes share. `Scoring` is the vault's counter as routes see it: no labels."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from fastapi import Request

from aarlab.core.types import Split
from aarlab.core.wire import BaselineAccuracy, Interval, Predictions
from aarlab.server.pace import Pace, SharedPace
from aarlab.server.settings import ServerSettings
from aarlab.store.database import Database
from aarlab.store.repository import SnapshotRepo
from aarlab.store.tokens import Access
from aarlab.testbed.task import PublicTask


class Feedback(Protocol):
    """Shaped figures of one submission, in PGR."""

    @property
    def pgr(self) -> float: ...
    @property
    def stderr(self) -> float: ...
    @property
    def n(self) -> int: ...
    @property
    def step(self) -> float: ...
    @property
    def improved(self) -> bool: ...


class Scoring(Protocol):
    def tasks(self) -> list[str]: ...
    def check(self, task: str, split: Split = "search") -> None: ...
    def estimate(self, task: str, split: Split, predictions: Predictions) -> Interval: ...
    def accuracy(self, task: str, split: Split, predictions: Predictions) -> float: ...
    def best(self, task: str, split: Split, methods: Sequence[Predictions]) -> Interval: ...
    def baselines(self, task: str, split: Split) -> BaselineAccuracy: ...
    def feedback(
        self, task: str, new: Predictions, best: Predictions | None, exact: bool = False
    ) -> Feedback: ...


class Store(NamedTuple):
    database: Database
    snapshots: SnapshotRepo


class Known(NamedTuple):
    """What a token opened when it was looked up; `until` is of the monotonic clock."""

    access: Access
    until: float


@dataclass(frozen=True)
class Platform:
    settings: ServerSettings
    store: Store
    scorer: Scoring
    operator_token: str = field(repr=False)
    pace: Pace
    requests: SharedPace
    posts: SharedPace
    # By the hash of the token, for moments only: another server may have revoked it.
    known: dict[str, Known] = field(default_factory=dict, repr=False)
    # Public rows of development tasks, read on first request.
    opened: dict[str, PublicTask] = field(default_factory=dict, repr=False)


async def platform_of(request: Request) -> Platform:
    """Async although it waits for nothing: FastAPI hands other functions to a thread."""
    platform: Platform = request.app.state.platform
    return platform
