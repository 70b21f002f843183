"""What methods need: the interpreter, this package and torch, under the default memory limit."""

from pathlib import Path

from sandbox_attempts import python

from aarlab.sandbox.spec import SandboxSpec

TRAIN = """
import torch
from aarlab.core.types import Example
torch.manual_seed(0)
layer = torch.nn.Sequential(torch.nn.Linear(256, 256), torch.nn.GELU(), torch.nn.Linear(256, 1))
optimiser = torch.optim.AdamW(layer.parameters(), 1e-2)
inputs = torch.randn(512, 256)
targets = (inputs[:, :1] > 0).float()
for _ in range(20):
    loss = torch.nn.functional.binary_cross_entropy_with_logits(layer(inputs), targets)
    optimiser.zero_grad(); loss.backward(); optimiser.step()
print(torch.backends.cpu.get_cpu_capability(), bool(loss < 0.5))
"""


def test_torch_trains_inside_at_full_speed(spec: SandboxSpec) -> None:
    done = python(spec, TRAIN)
    assert done.ok, done.stderr
    capability, learned = done.stdout.decode().split()
    assert learned == "True"
    # Without the processor's description under /sys, torch falls back to DEFAULT.
    assert (capability == "DEFAULT") == ("avx2" not in Path("/proc/cpuinfo").read_text())
    assert done.stderr == b""
