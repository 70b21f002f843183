"""The executor of a campaign: checked when a spec is read, opened when the campaign runs."""

import re
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from pydantic import ValidationError

from aarlab.campaign.aars import ExecutorSpec, VerifiersSpec
from aarlab.campaign.node import sealed
from aarlab.campaign.reading import SpecText, faults_of
from aarlab.campaign.settings import PodSettings
from aarlab.core.errors import AarlabError, BadInput, Fault, Faulty
from aarlab.executors.base import Executor, Options, Place, Resources
from aarlab.executors.known import executor_class

HOUR_S = 3600.0
# A line of a file of variables that gives one a value.
EMPTY = r"""["']{2}|[ \t]*(?:#|$)"""
SETS = re.compile(rf"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)=(?!{EMPTY})", re.MULTILINE)


def executor_faults(spec: ExecutorSpec, text: SpecText) -> list[Fault]:
    """List what is wrong with a campaign's choice of executor: its name, then its options."""
    try:
        kind = executor_class(spec.name)
    except AarlabError as error:
        place = ("executor", "name")
        return [Fault(text.line(place), f"executor: {error}")]
    try:
        kind.options.model_validate(spec.options)
    except ValidationError as error:
        return faults_of(error, kind.options, text, below=("executor", "options"))
    return []


def variables_given(spec: ExecutorSpec) -> frozenset[str]:
    """Return the names of the variables that the executor's `env_file` sets for AARs.

    Values are not returned. An executor without that option, or a file that cannot be read, gives
    none; the executor's own check says what is wrong with the file.
    """
    file = spec.options.get("env_file")
    if not isinstance(file, str):
        return frozenset()
    try:
        text = Path(file).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return frozenset()
    return frozenset(SETS.findall(text))


@contextmanager
def opened_executor(spec: ExecutorSpec, folder: Path) -> Iterator[Executor]:
    """Open a campaign's executor, which keeps its files in `folder`; raises Faulty."""
    if found := executor_faults(spec, SpecText(None)):
        raise Faulty("the campaign's executor cannot be used:", found)
    kind = executor_class(spec.name)
    options: Options = kind.options.model_validate(spec.options)
    executor = kind(options, Place(folder))
    try:
        yield executor
    finally:
        executor.close()


@dataclass(frozen=True, slots=True)
class Listens:
    """An address on which the server listens, with TLS, for AARs on other machines."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"https://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def listens(executor: Executor) -> Listens | None:
    """Choose a free port for AARs that run elsewhere; None if they use the unix socket.

    Raises BadInput if the executor's address is not one of this machine.
    """
    if (host := executor.platform_host) is None:
        return None
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        try:
            probe.bind((host, 0))
        except OSError as error:
            raise BadInput(
                f"`host: {host}` is not an address of this machine, where the server would listen: "
                f"{error.strerror or error}"
            ) from error
        return Listens(host, int(probe.getsockname()[1]))


def resources(spec: ExecutorSpec, n_aars: int | None = None) -> Resources:
    """Return what a job asks for: of one AAR, or of a pod of `n_aars`, by default a full one."""
    limit_s = None if spec.hours is None else spec.hours * HOUR_S
    n = n_aars or spec.aars_per_pod or 1
    cpus, memory_mb = (None if each is None else each * n for each in (spec.cpus, spec.memory_mb))
    return Resources(cpus, spec.gpus, memory_mb, limit_s)


def verifier_resources(spec: VerifiersSpec) -> Resources:
    """Return what the job of a verification pod asks for."""
    limit_s = None if spec.hours is None else spec.hours * HOUR_S
    return Resources(spec.cpus, spec.gpus, spec.memory_mb, limit_s)


def kept_lacks(spec: ExecutorSpec, host: str | None) -> list[str]:
    """Return what pods without a shared folder need on other machines, each with its remedy."""
    if spec.state == "shared" or spec.name == "local":
        return []
    found = []
    if host is None:
        found.append(
            "`state: kept` needs `options: {host: ADDRESS}`, where pods reach the campaign"
        )
    try:
        sealed("", PodSettings().secret.get_secret_value())
    except BadInput as error:
        found.append(str(error))
    return found


def lacking(spec: ExecutorSpec) -> list[str]:
    """Return what the executor needs before it can run AARs, each with its remedy."""
    with (
        TemporaryDirectory(prefix="aarlab-check-") as folder,
        opened_executor(spec, Path(folder)) as executor,
    ):
        found = []
        try:
            listens(executor)
        except BadInput as error:
            found.append(str(error))
        found += [*kept_lacks(spec, executor.platform_host), *executor.check(resources(spec))]
        if spec.verifiers is not None:
            more = executor.check(verifier_resources(spec.verifiers))
            found += [f"verification pods: {text}" for text in more if text not in found]
        return found
