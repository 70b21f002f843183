"""What one AAR process is told: written by the campaign, read once at start."""

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from aarlab.agents.external.spec import ExternalSpec
from aarlab.agents.language.spec import LanguageSpec
from aarlab.agents.prices import Price
from aarlab.core.wire import Isolation


class AarConfig(BaseModel):
    """Paths are the host's. The token is in a file of its own, never in this one."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    researcher: str
    direction: str
    methods: list[str]
    recipes: dict[str, dict[str, Any]] = {}
    seed: int
    task: str
    home: Path
    token_file: Path
    socket: Path
    public_task: Path
    models: Path
    n_seeds: int
    max_trials: int
    trial_timeout_s: float
    trial_memory_mb: int | None = None
    isolation: Isolation
    uid: int | None
    device_dollars_per_hour: float = 0.0
    language: LanguageSpec | None = None
    external: ExternalSpec | None = None
    prices: dict[str, Price] = {}

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def state(self) -> Path:
        return self.home / "state.json"

    @property
    def forum_cursor(self) -> Path:
        """How far the forum was copied into the workspace."""
        return self.home / "forum.json"

    def predictions(self, trial: int) -> Path:
        """Where a finished trial's predictions are kept, outside the workspace."""
        return self.home / "predictions" / f"{trial:04d}.json"
