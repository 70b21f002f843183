"""Settings of one AAR process: written by the campaign, read once at start."""

from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from aarlab.agents.prices import Price
from aarlab.agents.specs import ExternalSpec, LanguageSpec
from aarlab.client.transport import Address
from aarlab.core.problem import ProblemFacts
from aarlab.core.wire import Isolation, TaskInfo
from aarlab.testbed.tasks.task import load_info


class StudentAccess(BaseModel):
    """A student server of this machine: its socket, and a folder with TASK.token for each task.

    The files are written anew when the server was started again.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    socket: Path
    tokens: Path

    def token(self, task: str) -> str:
        """Return the token for a task; raises OSError where there is none."""
        return (self.tokens / f"{task}.token").read_text(encoding="utf-8").strip()


class AarConfig(BaseModel):
    """The configuration of one AAR process.

    Paths are the host's. The token and the supervisor's key are in files of their own, never in
    this one.

    `tasks` are the public folders of the development tasks by name, in the order of the spec. The
    first is the default.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    researcher: str
    direction: str
    methods: list[str]
    recipes: dict[str, dict[str, Any]] = {}
    own: dict[str, dict[str, str]] = {}  # files of own methods, base64, by path
    seed: int
    tasks: Annotated[dict[str, Path], Field(min_length=1)]
    home: Path
    token_file: Path
    supervisor_file: Path | None = None
    socket: Path
    url: str | None = None  # of the platform, where its socket is on another machine
    ca: Path | None = None  # the CA of the platform at `url`; None: a public one
    kept: bool = False  # on the platform (agents.keeping): no folder is shared
    again: bool = False  # it is to continue, if it had ended: its budget was extended
    models: Path
    students: StudentAccess | None = None  # None: a method's sandbox trains its own
    n_seeds: int
    max_trials: int
    trial_timeout_s: float
    trial_memory_mb: int | None = None
    isolation: Isolation
    sandbox_devices: bool = False  # commands may ask for a device of this machine
    uid: int | None
    device_dollars_per_hour: float = 0.0
    language: LanguageSpec | None = None
    external: ExternalSpec | None = None
    prices: dict[str, Price] = {}

    @property
    def address(self) -> Address:
        """Return where the platform is for this AAR."""
        return Address(self.url or self.socket, self.ca)

    @property
    def task(self) -> str:
        return next(iter(self.tasks))

    @property
    def public_task(self) -> Path:
        return self.tasks[self.task]

    def infos(self) -> dict[str, TaskInfo]:
        """Return the public facts of all tasks, in their order."""
        return {name: load_info(folder) for name, folder in self.tasks.items()}

    @cached_property
    def problem(self) -> ProblemFacts:
        """Return the research problem, which all tasks of a campaign share."""
        return load_info(self.public_task).problem

    @property
    def workspace(self) -> Path:
        return self.home / "workspace"

    @property
    def state(self) -> Path:
        return self.home / "state.json"

    @property
    def forum_cursor(self) -> Path:
        """Return the file that records how far the forum was copied into the workspace."""
        return self.home / "forum.json"

    def predictions(self, trial: int) -> Path:
        """Return where a finished trial's predictions are kept, outside the workspace."""
        return self.home / "predictions" / f"{trial:04d}.json"
