"""Look at a node of a campaign's executor: start a job as an AAR's, and read what it found there.

The job asks for what an AAR asks for, so it may wait in a queue as long. It writes into the data
root, which all nodes share. Run on the node: `python -m aarlab.campaign.node_probe JOB.json OUT`.

Covered: a node without user namespaces, device, key, disk or the shared folder, and one that does
not reach the campaign's machine. Not covered: other nodes than the one that the engine chose.
"""

import json
import os
import platform
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, NamedTuple

from aarlab.agents.providers import lacks
from aarlab.campaign.aars import VerifiersSpec
from aarlab.campaign.checking import Remark, claude_code_lacks, is_claude_code
from aarlab.campaign.executing import (
    Listens,
    listens,
    opened_executor,
    resources,
    verifier_resources,
)
from aarlab.campaign.spec import CampaignSpec, parse_spec
from aarlab.core.errors import AarlabError
from aarlab.core.files import write_json
from aarlab.core.layout import DataRoot
from aarlab.executors.base import Ended, Executor, Job, NotStarted, Resources
from aarlab.sandbox.devices import found
from aarlab.sandbox.probe import probe, probe_device
from aarlab.sandbox.settings import visible_devices
from aarlab.testbed.models.record import read_record
from aarlab.testbed.tasks.task import load_info, model_at_hand

POLL_S, REACH_S, STOP_S = 0.2, 10.0, 5.0
DEVICES = """\
import json, torch
found = []
for n in range(torch.cuda.device_count()):
    about = torch.cuda.get_device_properties(n)
    torch.zeros(1, device=f"cuda:{n}")  # the driver may be there, and fail
    found.append([about.name, about.total_memory / 2**30])
print(json.dumps(found))
"""


def node_remarks(spec: CampaignSpec, root: DataRoot, wait_s: float) -> list[Remark]:
    """Return what a node lacks, and what it has. Waits up to `wait_s` for the job."""
    if spec.executor.state == "kept":
        said = "a look at a node needs a folder that is shared: with `state: kept` there is none"
        return [Remark("note", said, ("executor",))]
    made, verifiers = _looked_at(spec, root, wait_s, "node", None), spec.executor.verifiers
    if verifiers is not None:
        made += _looked_at(spec, root, wait_s, "verification pod: node", verifiers)
    return made


def _looked_at(
    spec: CampaignSpec, root: DataRoot, wait_s: float, what: str, verifiers: VerifiersSpec | None
) -> list[Remark]:
    """Return what a node lacks, and has, for an AAR's job or that of a verification pod."""
    where, folder = ("executor",), root.path / "probes" / secrets.token_hex(6)
    folder.mkdir(parents=True)
    wants = resources(spec.executor) if verifiers is None else verifier_resources(verifiers)
    try:
        with opened_executor(spec.executor, folder / "executor") as executor:
            found = _found(
                spec, root, executor, Probe(folder, wait_s, wants, verifiers is not None)
            )
    except AarlabError as error:
        return [Remark("to do", f"{what}: {error}", where)]
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if isinstance(found, str):
        return [Remark("to do", f"{what}: {found}", where)]
    name = found["node"]
    made = [Remark("to do", f"{what} {name}: {text}", where) for text in found["lacks"]]
    return made + [Remark("note", f"{what} {name}: {text}", where) for text in found["has"]]


class Probe(NamedTuple):
    """The job that looks at a node: its folder, how long it is waited for, what it asks for."""

    folder: Path
    wait_s: float
    resources: Resources
    verifies: bool


def _found(
    spec: CampaignSpec, root: DataRoot, executor: Executor, asked: Probe
) -> dict[str, Any] | str:
    """Return what the job found, or why it found nothing."""
    folder, wait_s = asked.folder, asked.wait_s
    given, out = folder / "job.json", folder / "out.json"
    with _answering(listens(executor)) as reached:
        about: dict[str, Any] = {"spec": spec.model_dump(mode="json"), "root": str(root.path)}
        about |= {"reach": reached, "gpus": asked.resources.gpus, "verifies": asked.verifies}
        write_json(given, about)
        words = (sys.executable, "-m", "aarlab.campaign.node_probe", str(given), str(out))
        job = Job("probe", words, folder / "log", resources=asked.resources)
        try:
            handle = executor.start(job)
        except NotStarted as error:
            return str(error)
        until, ended = time.monotonic() + wait_s, handle.poll()
        while ended is None and time.monotonic() < until:
            time.sleep(POLL_S)
            ended = handle.poll()
        begun = handle.begun()
        handle.stop(STOP_S)
    return _read(out, folder / "log", ended, f"job {handle.id} {_waited(begun, wait_s)}")


def _waited(begun: bool, wait_s: float) -> str:
    state = "has not ended" if begun else "still waits in the queue"
    return f"{state} after {wait_s:g} s: give it longer (--wait-s), or ask for less"


def _read(out: Path, log: Path, ended: Ended | None, waited: str) -> dict[str, Any] | str:
    if ended is None:
        return waited
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(out.read_text(encoding="utf-8"))
        return found
    said = log.read_text(encoding="utf-8", errors="replace").strip()[-500:] if log.exists() else ""
    why = ended.why or f"exit code {ended.code}"
    return f"the job left nothing in the data root, which nodes must share ({why}): {said}"


@contextmanager
def _answering(wanted: Listens | None) -> Iterator[list[Any] | None]:
    """Listen where the campaign's server would, and answer with a word; None: it need not."""
    if wanted is None:
        yield None
        return
    family = socket.AF_INET6 if ":" in wanted.host else socket.AF_INET
    with closing(socket.socket(family, socket.SOCK_STREAM)) as end:
        end.bind((wanted.host, wanted.port))
        end.listen()
        word = secrets.token_hex(8)

        def answer() -> None:
            with suppress(OSError):  # closed
                while True:
                    other, _ = end.accept()
                    with closing(other):
                        other.sendall(word.encode())

        threading.Thread(target=answer, daemon=True).start()
        yield [wanted.host, wanted.port, word]
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


# ---------------------------------------------------------------- on the node
def main(argv: list[str]) -> int:
    given = json.loads(Path(argv[0]).read_text(encoding="utf-8"))
    spec, root = parse_spec(given["spec"], argv[0]), DataRoot(Path(given["root"]))
    has = list[str]()
    missing = [
        *_sandbox(spec),
        *_devices(spec, given["gpus"], has),
        *_keys(spec),
        *_folders(spec, root, has),
    ]
    missing += _material(spec, root) if given["verifies"] else ()
    missing += _sandbox_devices(spec)
    missing += _unreached(given["reach"])
    write_json(Path(argv[1]), {"node": platform.node(), "lacks": missing, "has": has})
    return 0


def _sandbox(spec: CampaignSpec) -> Iterator[str]:
    try:
        probe(spec.isolation)
    except AarlabError as error:
        yield str(error)


def _devices(spec: CampaignSpec, asked: int | None, has: list[str]) -> Iterator[str]:
    words = [sys.executable, "-c", DEVICES]
    done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        why = done.stderr.strip().rpartition("\n")[2]
        yield f"torch cannot use its devices: {why}"
        return
    found = json.loads(done.stdout)
    named = ", ".join(f"{name} ({gib:.0f} GiB)" for name, gib in found)
    has.append(f"{os.cpu_count()} cores; CUDA devices: {named or 'none'}")
    wanted = spec.student_server
    if not found and (asked or (wanted is not None and wanted.device == "cuda")):
        yield "torch finds no CUDA device: is `gpus` set in `executor`, and torch one with CUDA?"


def _sandbox_devices(spec: CampaignSpec) -> Iterator[str]:
    if not spec.sandbox_devices:
        return
    try:
        if not (there := found(visible_devices())):
            yield (
                "`sandbox_devices` is set, and a job sees no device such as /dev/nvidia0, or "
                "/dev/kfd with one such as /dev/dri/renderD128"
            )
        for device in there:
            probe_device(device)
    except AarlabError as error:
        yield str(error)


def _keys(spec: CampaignSpec) -> Iterator[str]:
    """Yield what models lack there: an engine's jobs have another environment than this shell."""
    said = set[str]()
    for aar in spec.aars:
        if (language := spec.language_of(aar)) is not None:
            for lack in lacks(language.model, language.base_url, language.model_args):
                said.add(lack.text)
        if is_claude_code(spec, aar):
            said.update(claude_code_lacks(aar.name))
    yield from sorted(said)


def _folders(spec: CampaignSpec, root: DataRoot, has: list[str]) -> Iterator[str]:
    for task in spec.tasks:
        if root.versions(task) and not (root.public_task(task) / "task.json").is_file():
            yield f"{root.public_task(task)} is not to be seen there"
    free_gb = shutil.disk_usage(tempfile.gettempdir()).free / 1e9
    has.append(f"{free_gb:.0f} GB free in {tempfile.gettempdir()}")


def _material(spec: CampaignSpec, root: DataRoot) -> Iterator[str]:
    """Yield what re-runs need of the node itself: held-out tasks' public folders, and models."""
    for task in spec.held_out:
        if not (root.public_task(task) / "task.json").is_file():
            yield f"{root.public_task(task)} is not to be seen there, and re-runs on {task} need it"
    for task in (*spec.tasks, *spec.held_out):
        if not (root.public_task(task) / "task.json").is_file():
            continue
        try:
            if (name := model_at_hand(load_info(root.public_task(task)))) is not None:
                read_record(root.models / name)
        except AarlabError as error:
            yield str(error)


def _unreached(reach: list[Any] | None) -> Iterator[str]:
    if reach is None:
        return
    host, port, word = reach
    try:
        with socket.create_connection((host, port), REACH_S) as end:
            end.settimeout(REACH_S)
            if end.recv(64).decode(errors="replace") != word:
                yield f"{host}:{port} is another machine than the campaign's"
    except OSError as error:
        yield f"it does not reach the campaign at {host}:{port}: {error}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
