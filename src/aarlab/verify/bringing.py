"""What re-runs read, brought to the machine of a verification pod: fetched, checked, laid out.

Inputs, features, weak labels and the run secret come from the platform, by an allow-list and with
their SHA-256, and lie in a folder of mode 700 as in a vault. Public tasks and models are those of
this machine, and must be the campaign's. What was fetched stays until the pod ends.

Covered: a file cut short or changed under way; another version of a task or a model on this
machine, which would change figures.
Not covered: who reads the folder as the same user.
"""

import hashlib
import os
import threading
from pathlib import Path

from aarlab.client.verifier import VerifierClient
from aarlab.core.errors import Damaged, NotFound
from aarlab.core.layout import DataRoot
from aarlab.core.wire import Verification
from aarlab.core.wire_verifiers import FileFacts, Material
from aarlab.sandbox.running import Cancel
from aarlab.testbed.models.record import file_sha256, read_record
from aarlab.verify.rerun import Stopped

PRIVATE, PRIVATE_FOLDER = 0o600, 0o700


class Brought:
    """A data root for verified runs at `root.path`; public tasks and models are those of `here`."""

    def __init__(self, root: DataRoot, here: DataRoot) -> None:
        self._root, self._here = root, here
        self._lock = threading.Lock()
        self._done = set[tuple[str, str]]()
        root.path.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        root.path.chmod(PRIVATE_FOLDER)
        for link, folder in ((root.public, here.public), (root.models, here.models)):
            if not link.is_symlink():
                link.symlink_to(folder.absolute())

    def bring(self, platform: VerifierClient, wanted: Verification, until: Cancel) -> None:
        """Have all that a re-run reads. Raises Damaged or NotFound where this machine is wrong."""
        with self._lock:
            if (wanted.task, wanted.split) in self._done:
                return
            material = platform.material(wanted.id)
            self._check(wanted.task, material)
            for name, facts in material.files.items():
                if not name.startswith("public/"):
                    self._fetch(platform, wanted, name, facts, until)
            self._done.add((wanted.task, wanted.split))

    def _check(self, task: str, material: Material) -> None:
        """Raise Damaged or NotFound unless public files and model are the campaign's."""
        folder = self._here.public_task(task)
        for name, facts in material.files.items():
            kind, _, path = name.partition("/")
            if kind != "public":
                continue
            if not (folder / path).is_file():
                raise NotFound(
                    f"{folder / path} is not on this machine: copy this task's folder in `public/` "
                    "of the campaign's data root to it"
                )
            if file_sha256(folder / path) != facts.sha256:
                raise Damaged(
                    f"{folder / path} is not the campaign's: copy this task's folder in `public/` "
                    "of the campaign's data root to this machine"
                )
        if material.model is not None:
            model = self._here.models / material.model
            if read_record(model).key != material.model_key:
                raise Damaged(f"{model} is not the campaign's model: copy that one")

    def _fetch(
        self,
        platform: VerifierClient,
        wanted: Verification,
        name: str,
        facts: FileFacts,
        until: Cancel,
    ) -> None:
        place = self._place(wanted.task, name)
        if place.is_file() and file_sha256(place) == facts.sha256:
            return  # of another split
        for folder in (place.parent, *place.parent.parents):
            if folder == self._root.path:
                break
            folder.mkdir(mode=PRIVATE_FOLDER, parents=True, exist_ok=True)
        digest, temporary = hashlib.sha256(), place.with_name(f".{place.name}.part")
        handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE)
        with os.fdopen(handle, "wb") as file:
            for part in platform.parts(wanted.id, name):
                if until.is_set():
                    raise Stopped(f"{wanted.id} was cut short: it stays queued")
                digest.update(part)
                file.write(part)
                if file.tell() > facts.n_bytes:
                    break
        if digest.hexdigest() != facts.sha256:
            raise Damaged(f"{name} of {wanted.task} did not arrive as the platform has it")
        temporary.replace(place)

    def _place(self, task: str, name: str) -> Path:
        kind, _, path = name.partition("/")
        if ".." in Path(path).parts or Path(path).is_absolute():
            raise Damaged(f"{name[:100]!r} is not a name of a file of the material")
        if kind == "vault":
            return self._root.vault_task(task) / path
        return self._root.path / kind / path
