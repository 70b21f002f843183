"""What AARs and the verifier share: taking a method's predictions out of a sandbox."""

import json

from pydantic import ValidationError

from aarlab.core.errors import BadInput, MethodFailed, NotFound
from aarlab.core.wire import Isolation
from aarlab.sandbox.spec import Finished, SandboxKind, SandboxSpec
from aarlab.sandbox.workspace import copy_out
from aarlab.testbed.job import ERROR, PREDICTIONS, JobError, JobOutput

MAX_OUTPUT_BYTES = 64 * 2**20
# Several methods share the cores: libraries that take a thread a core each slow all down.
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}


def sandbox_kind(isolation: Isolation) -> SandboxKind:
    return "bubblewrap" if isolation == "bubblewrap" else "process"


def take_output(spec: SandboxSpec, folder: str, done: Finished) -> JobOutput:
    """What a run left in its workspace, parsed as data; MethodFailed says what went wrong."""
    for name, model in ((PREDICTIONS, JobOutput), (ERROR, JobError)):
        try:
            raw = copy_out(spec, f"{folder}/{name}", MAX_OUTPUT_BYTES)
            parsed = model.model_validate(json.loads(raw))
        except NotFound:
            continue
        except (ValueError, ValidationError, BadInput) as error:
            raise MethodFailed(f"{name} does not have the expected form") from error
        if isinstance(parsed, JobOutput):
            return parsed
        raise MethodFailed(getattr(parsed, "message", "failed without a message"))
    ended = f"it passed the {done.killed_by} limit" if done.killed_by else "it left no predictions"
    last = done.stderr.decode(errors="replace").strip()[-1500:]
    raise MethodFailed(f"{ended} (exit code {done.returncode})" + (f": {last}" if last else ""))
