"""The work of models and students on a device that is not the CPU, where no card is at hand.

The device is of a kind that PyTorch keeps for devices that it does not know. Its arithmetic is the
CPU's, through other kernels. It refuses what CUDA refuses: an operation on tensors of two devices,
and numpy on its memory.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import on_other_device
import pytest
import torch

SOURCE = Path(on_other_device.__file__).with_suffix(".cpp").with_stem("other_device")
pytestmark = [
    pytest.mark.gate,
    pytest.mark.skipif(shutil.which("g++") is None, reason="the device is compiled with g++"),
]


@pytest.fixture(scope="module")
def found(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What was wrong with each kind of work."""
    library = tmp_path_factory.mktemp("device") / "other_device.so"
    about = Path(torch.__file__).parent
    compiler = ["g++", "-shared", "-fPIC", "-O0", "-std=c++20", f"-I{about / 'include'}"]
    linked = [f"-L{about / 'lib'}", "-lc10", "-ltorch_cpu", "-ltorch"]
    subprocess.run([*compiler, str(SOURCE), "-o", str(library), *linked], check=True, timeout=600)
    variables = {**os.environ, "PYTHONPATH": str(SOURCE.parent)}
    words = [sys.executable, on_other_device.__file__, str(library), str(tiny)]
    done = subprocess.run(
        words, env=variables, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.parametrize("kind", ["refused", *on_other_device.KINDS])
def test_work_on_another_device_gives_what_the_cpu_gives(found: dict[str, str], kind: str) -> None:
    assert found[kind] == ""
