"""A pod on a machine that does not share the run's folder (`state: kept`).

The pod is started with a few public facts on its command line, and its key sealed: what engines
store of a job tells nobody the key. It asks the platform for the rest, and lays it out in a folder
of its own as a run's folder is laid out. From then on it works as on a shared folder, and a courier
carries orders, report and errors between that folder and the platform.

Covered: an older copy of the pod, which the platform refuses and which then ends; a second copy on
the same machine; what an earlier campaign left in the folder, which is another folder.
Not covered: who reads the folder as the same user.
"""

import base64
import getpass
import json
import logging
import os
import secrets
import stat
import threading
import time
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from aarlab.agents.config import AarConfig
from aarlab.campaign.settings import PodSettings
from aarlab.client.platform import PodClient
from aarlab.client.transport import Address
from aarlab.core.errors import AarlabError, BadInput, Superseded
from aarlab.core.files import end_of, text_in, write_atomic
from aarlab.core.hashing import sha256_hex
from aarlab.core.layout import RunDir
from aarlab.core.wire_base import Strict
from aarlab.core.wire_kept import LOG_BYTES, MOST_LOGS, PodJoin, PodNews
from aarlab.sandbox.workspace import prepare_workspace

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

LOG = logging.getLogger("aarlab.pod")
PRIVATE = 0o600
TELL_S, AGAIN_S, LOGS_S = 1.0, 2.0, 5.0
MOST_SAID = 20_000
SECRET = "AARLAB_POD_SECRET"


class PodBoot(Strict):
    """What any pod is started with. `key` is sealed; `key_file` is one that its machine can read.

    `devices` is the number of its student servers.
    """

    name: str
    root: Path
    devices: int = 0
    socket: Path | None = None
    url: str | None = None
    ca: str = ""  # the certificate of the campaign's CA
    key: str = ""
    key_file: Path | None = None

    def opened_key(self) -> str:
        """Return the pod's key. Raises BadInput where the secret is not the campaign's."""
        if self.key_file is not None:
            return self.key_file.read_text(encoding="utf-8").strip()
        return unsealed(self.key, PodSettings().secret.get_secret_value())

    def address(self, run: RunDir) -> Address:
        """Return where the platform is; `run` is the pod's folder, which has the certificate."""
        place = self.url or self.socket
        assert place is not None
        return Address(place, run.tls / "ca.pem" if self.ca else None)


class Boot(PodBoot):
    """What a pod of AARs is started with where no folder is shared."""

    aars: list[str]


def pods_folder() -> Path:
    """Return where pods lay out their folders on this machine.

    Raises BadInput if it is not a folder of this user.
    """
    top = PodSettings().folder or Path("/tmp") / f"aarlab-pods-{getpass.getuser()}"
    if not top.is_symlink():
        top.mkdir(mode=0o711, parents=True, exist_ok=True)
    about = top.lstat()
    if not stat.S_ISDIR(about.st_mode) or about.st_uid != os.geteuid():
        raise BadInput(f"{top} is not a folder of this user: give AARLAB_POD_FOLDER")
    return top


def sealed(key: str, secret: str) -> str:
    """Return a pod's key in a form that says nothing without the secret."""
    nonce = secrets.token_bytes(12)
    made = nonce + _cipher(secret).encrypt(nonce, key.encode(), b"pod")
    return base64.urlsafe_b64encode(made).decode()


def unsealed(text: str, secret: str) -> str:
    """Return a pod's key. Raises BadInput where the secret is not the campaign's."""
    from cryptography.exceptions import InvalidTag  # of the extra `server`, as in _cipher

    raw = base64.urlsafe_b64decode(text)
    try:
        return _cipher(secret).decrypt(raw[:12], raw[12:], b"pod").decode()
    except InvalidTag:
        raise BadInput(
            f"{SECRET} of this node is not the one of the campaign's machine: set both alike, here "
            "in the executor's `env_file`"
        ) from None


def _cipher(secret: str) -> "AESGCM":
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    if len(secret) < 16:
        raise BadInput(
            f"pods with `state: kept` on other machines need {SECRET}, of 16 characters or more "
            "(openssl rand -hex 32): in the environment of the campaign and in `env_file` of nodes"
        )
    key = HKDF(SHA256(), 32, salt=None, info=b"aarlab pod").derive(secret.encode())
    return AESGCM(key)


class Courier:
    """Carries orders to a pod and reports from it; `check` raises Superseded once it is refused."""

    def __init__(self, boot: Boot, key: str, run: RunDir, number: int) -> None:
        self._boot, self._key, self._run, self._number = boot, key, run, number
        self._refused: Superseded | None = None
        self._told: PodNews | None = None
        self._logs: dict[str, str] = {}
        self._logs_at = float("-inf")
        self._busy = threading.Lock()

    def check(self) -> None:
        if self._refused is not None:
            raise self._refused

    def start(self) -> None:
        threading.Thread(target=self._carry, daemon=True).start()

    def _carry(self) -> None:
        pause = threading.Event()
        with self._client() as platform:
            while self._refused is None:
                try:
                    self._tell(platform)
                except Superseded as error:
                    self._refused = error
                except AarlabError as error:
                    LOG.warning("no report reached the platform: %s", error)
                    pause.wait(AGAIN_S)
                pause.wait(TELL_S)

    def finish(self, stopped: str = "") -> None:
        """Report for the last time, with what ended the pod if that was an error.

        A pod whose report is lost is started again, and finds it.
        """
        try:
            self._logs_at = float("-inf")
            with self._client() as platform:
                self._tell(platform, stopped)
        except AarlabError as error:
            LOG.warning("the last report did not reach the platform: %s", error)

    def _client(self) -> PodClient:
        return PodClient(self._boot.address(self._run), self._key)

    def _tell(self, platform: PodClient, stopped: str = "") -> None:
        """Send what changed since it was last sent; write down what the orders are."""
        with self._busy:
            self._tell_once(platform, stopped)

    def _tell_once(self, platform: PodClient, stopped: str) -> None:
        folder, boot = self._run.pod(self._boot.name), self._boot
        errors = {name: text_in(self._run.aar_error(name)) for name in boot.aars}
        now = PodNews(
            pod=boot.name,
            aars=boot.aars,
            number=self._number,
            report=text_in(folder / "report.json"),
            errors=errors,
            stopped=stopped[-MOST_SAID:],
        )
        news, told = now, self._told
        if told is not None:
            changed = {n: text for n, text in errors.items() if told.errors.get(n) != text}
            report = "" if told.report == now.report else now.report
            news = now.model_copy(update={"report": report, "errors": changed})
        logs = self._new_logs()
        said = platform.tell(news.model_copy(update={"logs": logs}))
        self._told, self._logs = now, self._logs | logs
        if said.orders and said.orders != text_in(folder / "orders.json"):
            write_atomic(folder / "orders.json", said.orders)

    def _new_logs(self) -> dict[str, str]:
        """Return the ends of some logs that changed since they were sent, every few seconds."""
        if time.monotonic() - self._logs_at < LOGS_S:
            return {}
        self._logs_at = time.monotonic()
        logs = {name: end_of(self._run.aar_log(name), LOG_BYTES) for name in self._boot.aars}
        new = ((name, text) for name, text in logs.items() if text != self._logs.get(name, ""))
        return dict(islice(new, MOST_LOGS))


def joined(boot: Boot) -> tuple[RunDir, Courier]:
    """Begin a process of the pod on this machine: lay its folder out as that of a run.

    Raises BadInput for a wrong secret, and as the platform's client does.
    """
    key = boot.opened_key()
    run = RunDir(pods_folder() / f"{boot.name}-{sha256_hex(key)[:12]}")
    folder = run.pod(boot.name)
    for made in (run.tokens, run.platform / "supervisors", run.tls, folder):
        made.mkdir(parents=True, exist_ok=True)
    run.platform.chmod(0o700)
    write_atomic(run.tls / "ca.pem", boot.ca)
    write_atomic(folder / "key", key + "\n", PRIVATE)
    with PodClient(boot.address(run), key) as platform:
        given = platform.join(PodJoin(pod=boot.name, aars=boot.aars))
    write_atomic(run.spec, given.spec)
    for name, text in (("orders.json", given.orders), ("report.json", given.report)):
        with suppress(FileNotFoundError):
            (folder / name).unlink()
        if text:
            write_atomic(folder / name, text)
    for name in boot.aars:
        run.aar(name).mkdir(parents=True, exist_ok=True)
        write_atomic(run.tokens / name, given.tokens[name], PRIVATE)
        write_atomic(run.platform / "supervisors" / name, given.supervisors[name], PRIVATE)
        config = _config(boot, run, given.configs[name])
        prepare_workspace(config.workspace, config.uid)
        write_atomic(run.aar(name) / "aar.json", config.model_dump_json(indent=1) + "\n")
    return run, Courier(boot, key, run, given.number)


def _config(boot: Boot, run: RunDir, given: str) -> AarConfig:
    """Return an AAR's config with the paths of this machine, and its own uid only for root."""
    config = AarConfig.model_validate(json.loads(given))
    return config.model_copy(
        update={
            "home": run.aar(config.name),
            "token_file": run.tokens / config.name,
            "supervisor_file": run.platform / "supervisors" / config.name,
            "ca": run.tls / "ca.pem" if boot.ca else None,
        }
    )
