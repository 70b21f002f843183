"""Where and in which float type a model computes. Features of another type have another key.

bfloat16 where the chip has it (on a CPU with it, 3.6 times faster than float32), else float32.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch

from aarlab.core.errors import BadInput
from aarlab.core.hashing import content_hash
from aarlab.testbed.models.cache import ModelId
from aarlab.testbed.models.record import ModelRecord
from aarlab.testbed.settings import TestbedSettings

Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["auto", "bfloat16", "float32"]
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
BATCH_TOKENS = {"cpu": 2048, "cuda": 16384}
TRAIN_TOKENS = {
    "cpu": 16384,
    "cuda": 8192,
}  # 8,192: products of a 4B model's width are full by then
Checkpoint = Literal["none", "mlp", "block"]
CPU_BF16 = {"avx512_bf16", "amx_bf16", "bf16"}


@dataclass(frozen=True, slots=True)
class Compute:
    """Where and how a model computes.

    `batch_tokens` go through the model at once (on a CPU: in each thread), `train_tokens` where
    blocks are trained. For `checkpoint` and `compile` see `adapters.forward`.
    """

    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["bfloat16", "float32"] = "bfloat16"
    batch_tokens: int = BATCH_TOKENS["cpu"]
    train_tokens: int = TRAIN_TOKENS["cpu"]
    checkpoint: Checkpoint = "none"
    compile: bool = False

    def model_id(self, record: ModelRecord) -> ModelId:
        """Return name and key of features computed so; bfloat16 is the model's own key."""
        computed = f"{self.dtype} on {self.device}, torch {torch.__version__}"
        if self.dtype == "bfloat16":
            return ModelId(record.name, record.key, computed)
        key = content_hash([record.key, self.dtype])
        return ModelId(f"{record.name} ({self.dtype})", key, computed)


class Training(NamedTuple):
    """What settings say about training blocks; None: by device."""

    tokens: int | None = None
    checkpoint: Checkpoint = "none"
    compile: bool = False


def choose(
    device: Device = "auto",
    dtype: Dtype = "auto",
    batch_tokens: int | None = None,
    training: Training = Training(),  # noqa: B008 (immutable)
) -> Compute:
    """Return what the settings ask for on this machine.

    Raises BadInput for cuda where torch finds none.
    """
    if device == "cuda" and not torch.cuda.is_available():
        raise BadInput("AARLAB_DEVICE=cuda, but torch finds no CUDA device: set it to auto or cpu")
    where: Literal["cpu", "cuda"] = (
        "cuda" if device != "cpu" and torch.cuda.is_available() else "cpu"
    )
    if dtype == "auto":
        dtype = "bfloat16" if _has_bf16(where) else "float32"
    return Compute(
        where,
        dtype,
        batch_tokens or BATCH_TOKENS[where],
        training.tokens or TRAIN_TOKENS[where],
        training.checkpoint,
        training.compile,
    )


def choose_by(settings: TestbedSettings, device: Device | None = None) -> Compute:
    """Return what the environment asks for, on another device if one is given."""
    training = Training(settings.train_tokens, settings.checkpoint, settings.compile)
    return choose(device or settings.device, settings.dtype, settings.batch_tokens, training)


def _has_bf16(device: str) -> bool:
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    cpu = Path("/proc/cpuinfo")
    return cpu.is_file() and bool(CPU_BF16 & set(cpu.read_text(encoding="utf-8").split()))


def is_out_of_memory(error: BaseException) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or "can't allocate memory" in str(error)


@contextmanager
def memory_for(what: str, n_bytes: int) -> Iterator[None]:
    """Turn running out of memory into BadInput: `what` needs about `n_bytes`."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        raise BadInput(
            f"{what} needs about {n_bytes / 1e9:.1f} GB of memory, which this machine has not "
            f"free: set AARLAB_DTYPE=bfloat16, AARLAB_DEVICE=cpu, or choose a smaller model"
        ) from error
