"""Where things lie on disk. `DataRoot` holds tasks and models, `RunDir` one campaign.

A task has two roots and no file has an input beside its hidden label:

    public/<task>/   task.json  inputs/{train,search}.jsonl  weak_labels.npz  features/  lower/
    vault/<task>/    truth/<split>.jsonl  inputs/{teacher,selection,certify}.jsonl
                     weak_labels.npz (fresh teachers)  baselines.npz  features/  lower/
                     twins/{inputs.jsonl,features.npz,lower.npz,reference.json}  (700 / 600)
"""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class DataRoot:
    path: Path

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def public(self) -> Path:
        return self.path / "public"

    @property
    def vault(self) -> Path:
        return self.path / "vault"

    def public_task(self, task: str) -> Path:
        return self.public / task

    def vault_task(self, task: str) -> Path:
        return self.vault / task


@dataclass(frozen=True, slots=True)
class RunDir:
    """One campaign on disk. `platform` and `verifier` are closed to every sandbox."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    @property
    def platform(self) -> Path:
        return self.path / "platform"

    @property
    def database(self) -> Path:
        """The SQLite file, where no other database is set."""
        return self.platform / "platform.db"

    @property
    def snapshots(self) -> Path:
        return self.platform / "snapshots.git"

    @property
    def tokens(self) -> Path:
        return self.platform / "tokens"

    @property
    def signing_key(self) -> Path:
        return self.tokens / "signing"

    @property
    def public_key(self) -> Path:
        return self.tokens / "signing.pub"

    @property
    def heads(self) -> Path:
        """Signed heads of the log: outside `platform`, to be copied off this machine."""
        return self.path / "heads"

    @property
    def socket(self) -> Path:
        return self.path / "socket" / "platform.sock"

    @property
    def verifier(self) -> Path:
        return self.path / "verifier"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def export(self) -> Path:
        return self.path / "export.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def aar(self, name: str) -> Path:
        return self.path / "aars" / name

    def aar_error(self, aar: str) -> Path:
        """What the AAR's process died of, in its own words (agents.__main__)."""
        return self.aar(aar) / "error.json"

    def given_up(self, aar: str) -> Path:
        """An `AarEnding`, where the campaign does not start the AAR's process any more."""
        return self.aar(aar) / "given_up.json"

    def transcript(self, aar: str) -> Path:
        """What a language-model AAR was told, said and did (core.transcript)."""
        return self.aar(aar) / "transcript.jsonl"
