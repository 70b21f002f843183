"""Settings of the platform server, with those of its store."""

from pathlib import Path

from pydantic import Field

from aarlab.core.layout import DataRoot, RunDir
from aarlab.store.settings import StoreSettings


class ServerSettings(StoreSettings):
    """Settings of one server, which serves one run.

    Fields come from arguments, else from AARLAB_SERVER_* variables.
    """

    run: Path
    data: Path
    tasks: list[str] = Field(default=[], description="development tasks, all that AARs ever see")
    exact_feedback: bool = False
    at_rest: bool = Field(
        default=False, description="serve what was scored also where a task is not here any more"
    )
    unix_socket: bool = True
    host: str = "127.0.0.1"
    port: int | None = Field(default=None, ge=0, le=65535, description="None: no TCP port")
    certificate: Path | None = Field(default=None, description="of the TCP port: TLS; None: none")
    certificate_key: Path | None = None
    max_body_bytes: int = Field(default=32 * 2**20, gt=0)
    requests_per_s: float = Field(
        default=50.0, gt=0, allow_inf_nan=False, description="per AAR, sustained"
    )
    request_burst: int = Field(default=200, gt=0)
    snapshot_bytes: int = Field(
        default=500_000_000, gt=0, description="of all snapshots of an AAR together"
    )
    head_every_entries: int = Field(default=100, gt=0, description="export a signed head after ...")
    head_every_s: float = Field(
        default=60.0, gt=0, allow_inf_nan=False, description="... or when this old"
    )
    posts_per_s: float = Field(
        default=0.5, gt=0, allow_inf_nan=False, description="findings, comments and votes"
    )
    post_burst: int = Field(default=60, gt=0)
    longest_wait_s: float = Field(
        default=60.0, gt=0, le=60, description="of a long poll, for proxies that end idle requests"
    )

    @property
    def run_dir(self) -> RunDir:
        return RunDir(self.run)

    @property
    def data_root(self) -> DataRoot:
        """Return the data root with tasks in the versions that the run's campaign is bound to."""
        return self.run_dir.bound(DataRoot(self.data))
