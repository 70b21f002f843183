"""Where files are stored. `DataRoot` holds tasks and models, `RunDir` one campaign.

A task has two roots, and no file holds an input together with its hidden label:

    public/<task>@<version>/   task.json  inputs/{train,search}.jsonl  weak_labels.npz  features/
                               lower/
    vault/<task>@<version>/    truth/<split>.jsonl
                               inputs/{teacher,train_hidden,selection,certify}.jsonl
                               weak_labels.npz (fresh teachers, of train)  hidden_weak_labels.npz
                               (of train_hidden, which not every task has)  baselines.npz
                               features/  lower/
                               twins/{inputs.jsonl,features.npz,lower.npz,reference.json}
                               (700 / 600)
    default/<task>             the version that the bare name refers to

A version is 12 hexadecimal digits of a hash of the task's content. Tasks built before versions
were introduced are in `public/<task>` and `vault/<task>`; their version is the start of the content
hash in their task.json.

The names of the embedded tasks, and the commands that build them, are here because a message that a
task is missing can be needed where the test bed is not installed. The tasks themselves are in
`aarlab/embedded`, in `testbed.generators` and in installed packages.

The data root also records which campaigns use which versions of tasks, in one small file per run
folder. A campaign records its tasks when it is created and whenever it starts. A note is dropped if
its run folder is gone. It is kept and counts if the parent folder is gone too (an unmounted disk).
"""

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from aarlab.core.errors import BadInput, Conflict, NotFound
from aarlab.core.files import write_atomic, write_json
from aarlab.core.hashing import sha256_hex
from aarlab.core.ids import NAME
from aarlab.core.registry import installed

ROWS = ("oversight", "oversight-single", "oversight-unseen")
EMBEDDED = (*ROWS, "math", "chat", "code")
"""Tasks of shipped rows, then generated ones."""
TASK_GROUP = "aarlab.tasks"
"""Entry points of generated tasks of installed packages."""
VARIANTS = {"-states": "--states-only", "-with-model": "--with-model"}
"""Ending of a task's name, and the option of `aarlab task build` that gives a task this name."""
ADAPTATION_NAMES = ("top_blocks", "lora", "full")
"""Adaptations that train the strong model itself; each has an ending of task names too."""
ADAPTATION_GROUP = "aarlab.adaptations"


def embedded_names() -> tuple[str, ...]:
    """Return the names of all tasks that `aarlab task build NAME` can build.

    Those of installed packages come last. Raises Conflict for one that has a name of ours.
    """
    return (*EMBEDDED, *installed("generated task", TASK_GROUP, EMBEDDED))


def ending_of(adaptation: str) -> str:
    """Return the ending of the names of tasks whose students are trained like this."""
    return f"-{adaptation}".replace("_", "-")


def build_command(name: str) -> str | None:
    """Return the command that builds a task of this name; None if it is not an embedded task."""
    base, options = name, list[str]()
    adaptations = (*ADAPTATION_NAMES, *installed("adaptation", ADAPTATION_GROUP, ADAPTATION_NAMES))
    endings = {ending_of(one): f"--adaptation {one}" for one in adaptations}
    for ending, option in (VARIANTS | endings).items():
        if base.endswith(ending):
            base = base.removesuffix(ending)
            options.append(option)
    return " ".join(["aarlab task build", base, *options]) if base in embedded_names() else None


def how_to_get(name: str, here: Iterable[str]) -> str:
    """Say how to get a task of which no version is here; `here` are the tasks that are.

    A name that is like a known one is taken for a typing error.
    """
    if (command := build_command(name)) is not None:
        return f"To get it: {command}"
    there = sorted(set(here) - {name})
    known = list(dict.fromkeys([*there, *embedded_names()]))
    if close := difflib.get_close_matches(name, known, n=1):
        built = "" if close[0] in there else f" (not built yet: {build_command(close[0])})"
        return f"Did you mean {close[0]}{built}? `aarlab task list` shows all tasks"
    return (
        f"There are {', '.join(known)}: `aarlab task list` shows them. Own rows become a task by: "
        f"aarlab task import FOLDER --name {name}"
    )


# Rows of the embedded tasks, with public labels: every sandbox has an empty folder in its place.
SHIPPED = Path(__file__).parents[1] / "embedded"
VERSION = re.compile(r"[0-9a-f]{12}")
UNVERSIONED = ""  # version of the folder without one, used by campaigns made before versions


def parse_task(reference: str) -> tuple[str, str | None]:
    """Split `name` or `name@version`; raises BadInput for anything else."""
    name, at, version = reference.partition("@")
    if not NAME.fullmatch(name) or ".." in name or (at and not VERSION.fullmatch(version)):
        raise BadInput(
            f"task {reference!r}: expected NAME or NAME@VERSION, a version being 12 hexadecimal "
            "digits; `aarlab task list` shows them"
        )
    return name, version if at else None


def reference_of(task: str, versions: Mapping[str, str] | None, content_hash: str) -> str:
    """Return NAME@VERSION, the name that `aarlab task list` gives a version of a task.

    `versions` are those that a campaign is bound to. The version of a task that was built before
    there were versions is the start of its content hash.
    """
    return f"{task}@{(versions or {}).get(task) or content_hash[:12]}"


class TaskVersion(NamedTuple):
    """One built version of a task. `folder` is its name in `public` and `vault`."""

    name: str
    version: str
    folder: str
    is_default: bool

    @property
    def reference(self) -> str:
        return f"{self.name}@{self.version}"


@dataclass(frozen=True, slots=True)
class DataRoot:
    """Tasks and models on disk. Only this class maps a task's name to its folder.

    `pinned` gives the version of each task of a campaign. Without it a name refers to its default
    version.
    """

    path: Path
    pinned: Mapping[str, str] | None = None

    @property
    def models(self) -> Path:
        return self.path / "models"

    @property
    def sources(self) -> Path:
        """Return the folder of downloaded files of public data sets, by repository and commit."""
        return self.path / "sources"

    @property
    def public(self) -> Path:
        return self.path / "public"

    @property
    def vault(self) -> Path:
        return self.path / "vault"

    def public_task(self, task: str) -> Path:
        """Return the public folder of `name` or `name@version`, which need not exist."""
        return self.public / self.folder_of(task)

    def vault_task(self, task: str) -> Path:
        return self.vault / self.folder_of(task)

    def default_file(self, name: str) -> Path:
        """Return the path of the file that stores a task's default version."""
        return self.path / "default" / name

    def pin(self, *tasks: str) -> "DataRoot":
        """Return the same root with each of these tasks fixed to the version found now.

        Raises NotFound for a task that is not here.
        """
        found = {one.name: one.version for one in map(self.find_task, tasks)}
        return replace(self, pinned={**(self.pinned or {}), **found})

    def folder_of(self, task: str) -> str:
        name, version = parse_task(task)
        if version is None:
            version = (self.pinned or {}).get(name)
        if version is None:
            version = self._default(name)
        if not version:
            return name
        folder = f"{name}@{version}"
        if not (self.public / folder).is_dir() and self._unversioned(name) == version:
            return name
        return folder

    def find_task(self, task: str) -> TaskVersion:
        """Return the built version that a name refers to.

        Raises NotFound, naming the versions that are here and how to get this one.
        """
        name, folder = parse_task(task)[0], self.folder_of(task)
        for one in self.versions(name):
            if one.folder == folder:
                return one
        raise NotFound(self.missing(task))

    def versions(self, name: str) -> list[TaskVersion]:
        """List all built versions of a task, oldest first."""
        default, made = self._said_default(name), list[tuple[float, TaskVersion]]()
        for path in (self.public / name, *self.public.glob(f"{name}@*")):
            version = path.name.partition("@")[2] or self._unversioned(name)
            if version and VERSION.fullmatch(version) and (path / "task.json").is_file():
                one = TaskVersion(name, version, path.name, False)
                made.append(((path / "task.json").stat().st_mtime, one))
        if default is None and len(made) == 1:
            default = made[0][1].version
        default = self._unversioned(name) if default == UNVERSIONED else default
        return [one._replace(is_default=one.version == default) for _, one in sorted(made)]

    def task_names(self) -> list[str]:
        """List the names of tasks that have a public folder, sorted."""
        if not self.public.is_dir():
            return []
        names = {path.name.partition("@")[0] for path in self.public.iterdir() if path.is_dir()}
        return sorted(name for name in names if NAME.fullmatch(name))

    def missing(self, task: str) -> str:
        """Describe which version is missing, which ones are here, and how to get it."""
        name, folder = parse_task(task)[0], self.folder_of(task)
        there = [one.reference for one in self.versions(name)]
        known = f"; here: {', '.join(there)}" if there else ""
        if "@" in folder:
            how = (
                "To get it: build or import the same data with the same options again, or copy "
                f"public/{folder} and vault/{folder} from a machine that has them"
            )
        elif there:  # only campaigns made before versions ask for it
            folder = f"{name} (without a version)"
            how = f"To get it: copy public/{name} and vault/{name} from a machine that has them"
        else:
            how = how_to_get(name, self.task_names())
        return f"task {folder} is not in {self.path}{known}. {how}"

    def check_task(self, task: str) -> None:
        """Raise NotFound unless both the public and the vault folder of this version are here."""
        if not (self.public_task(task) / "task.json").is_file():
            raise NotFound(self.missing(task))
        if not self.vault_task(task).is_dir():
            folder = self.folder_of(task)
            raise NotFound(
                f"the vault side of task {folder} is not in {self.vault}: build or import the task "
                f"again, or copy vault/{folder}"
            )

    def set_default(self, name: str, version: str) -> None:
        """Make this version the default of a task; raises NotFound if it is not here."""
        if version not in {one.version for one in self.versions(name)}:
            raise NotFound(self.missing(f"{name}@{version}"))
        path = self.default_file(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, f"{version}\n")

    def _default(self, name: str) -> str | None:
        """Return the default version of a task; None if nothing was built.

        Returns UNVERSIONED for the folder without a version. Raises Conflict if there are several
        versions and no default.
        """
        if (said := self._said_default(name)) is not None:
            return said
        found = sorted(self.public.glob(f"{name}@*"))
        if len(found) > 1:
            raise Conflict(
                f"task {name} has several versions in {self.path} and no default: "
                f"aarlab task use {found[0].name}"
            )
        return found[0].name.partition("@")[2] if found else None

    def _said_default(self, name: str) -> str | None:
        """Return the default version stored in the default file, else UNVERSIONED.

        Returns None if there is neither a valid default file nor a folder without a version.
        """
        try:
            said = self.default_file(name).read_text(encoding="utf-8").strip()
        except OSError:
            said = ""
        if VERSION.fullmatch(said):
            return said
        return UNVERSIONED if (self.public / name).is_dir() else None

    def _unversioned(self, name: str) -> str | None:
        """Return the version of the folder without one: the start of its content hash.

        Returns None if its task.json cannot be read.
        """
        try:
            known = json.loads((self.public / name / "task.json").read_text(encoding="utf-8"))[
                "content_hash"
            ]
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return str(known)[:12]


@dataclass(frozen=True, slots=True)
class RunDir:
    """One campaign on disk. `platform` and `verifier` are closed to every sandbox."""

    path: Path

    @property
    def spec(self) -> Path:
        return self.path / "spec.json"

    def must_exist(self) -> None:
        """Raise NotFound unless the folder holds a campaign."""
        if not self.spec.exists():
            raise NotFound(f"{self.path} holds no campaign (no spec.json)")

    def task_versions(self) -> dict[str, str] | None:
        """Return the version of each task that the campaign is bound to, as frozen in its spec.

        Returns None if the spec is missing or cannot be read. The versions are UNVERSIONED in a
        campaign made before versions were introduced.
        """
        try:
            spec = json.loads(self.spec.read_text(encoding="utf-8"))["campaign"]
            names = [*spec["tasks"], *spec.get("held_out", [])]
            bound = spec.get("versions")
        except (OSError, ValueError, KeyError, TypeError):
            return None
        if bound is None:
            return dict.fromkeys(names, UNVERSIONED)
        return {str(name): str(version) for name, version in dict(bound).items()}

    def bound(self, root: DataRoot) -> DataRoot:
        """Return the data root with this campaign's tasks fixed to the versions it is bound to."""
        return replace(root, pinned=self.task_versions())

    @property
    def lock(self) -> Path:
        """Return the path of the lock held by the process that runs the campaign or its server."""
        return self.path / ".lock"

    @property
    def holder(self) -> Path:
        """Return the path of the note that says which process holds the lock (core.holding)."""
        return self.path / ".holder"

    @property
    def platform(self) -> Path:
        return self.path / "platform"

    @property
    def database(self) -> Path:
        """Return the SQLite file, used if no other database is set."""
        return self.platform / "platform.db"

    @property
    def snapshots(self) -> Path:
        return self.platform / "snapshots.git"

    @property
    def tokens(self) -> Path:
        return self.platform / "tokens"

    @property
    def tls(self) -> Path:
        """Return the folder of the campaign's CA and its server's certificate, where it has any."""
        return self.platform / "tls"

    @property
    def signing_key(self) -> Path:
        return self.tokens / "signing"

    @property
    def public_key(self) -> Path:
        return self.tokens / "signing.pub"

    @property
    def heads(self) -> Path:
        """Return the signed heads of the log.

        They are outside `platform`, to be copied off this machine.
        """
        return self.path / "heads"

    @property
    def socket(self) -> Path:
        return self.path / "socket" / "platform.sock"

    @property
    def verifier(self) -> Path:
        return self.path / "verifier"

    @property
    def executor(self) -> Path:
        """Return the folder of what the campaign's executor keeps; there may be none."""
        return self.path / "executor"

    @property
    def events(self) -> Path:
        return self.path / "events.jsonl"

    @property
    def webhook(self) -> Path:
        """Return the path of the note that says how far events were sent (campaign.webhook)."""
        return self.path / "webhook.json"

    @property
    def export(self) -> Path:
        return self.path / "export.json"

    @property
    def report(self) -> Path:
        return self.path / "report"

    def aar(self, name: str) -> Path:
        return self.path / "aars" / name

    def pod(self, name: str) -> Path:
        """Return the folder of what a pod is told and reports (campaign.pod)."""
        return self.path / "pods" / name

    def aar_log(self, aar: str) -> Path:
        """Return the path of what the AAR's process says (stderr)."""
        return self.aar(aar) / "aar.log"

    def aar_error(self, aar: str) -> Path:
        """Return the path of the error that ended the AAR's process (agents.__main__)."""
        return self.aar(aar) / "error.json"

    def given_up(self, aar: str) -> Path:
        """Return the path of the AAR's `AarEnding`.

        It exists if the campaign does not start the AAR's process any more.
        """
        return self.aar(aar) / "given_up.json"

    def transcript(self, aar: str) -> Path:
        """Return what a language-model AAR read, said and did (core.transcript)."""
        return self.aar(aar) / "transcript.jsonl"


class Use(NamedTuple):
    """A run folder and the tasks, as `name@version`, that its campaign is bound to."""

    run: Path
    tasks: tuple[str, ...]


def note_use(root: DataRoot, run: RunDir, versions: dict[str, str]) -> None:
    """Record what a campaign is bound to, replacing any earlier note of the same run folder."""
    folder = _folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    where = str(run.path.absolute())
    tasks = [f"{name}@{version}" for name, version in sorted(versions.items()) if version]
    write_json(folder / f"{sha256_hex(where)[:24]}.json", {"run": where, "tasks": tasks}, 0o600)


def uses(root: DataRoot) -> list[Use]:
    """List the campaigns that exist, by run folder, and delete notes of those that are gone."""
    found = []
    for path in sorted(_folder(root).glob("*.json")):
        try:
            said = json.loads(path.read_text(encoding="utf-8"))
            one = Use(Path(said["run"]), tuple(map(str, said["tasks"])))
        except (OSError, ValueError, KeyError, TypeError):
            continue
        if RunDir(one.run).spec.is_file() or not one.run.parent.is_dir():
            found.append(one)
        else:
            path.unlink(missing_ok=True)
    return sorted(found)


def users_of(root: DataRoot, reference: str) -> list[Path]:
    """List the run folders of the campaigns bound to `name@version`."""
    return [use.run for use in uses(root) if reference in use.tasks]


def _folder(root: DataRoot) -> Path:
    return root.path / "uses"
