"""A sandbox shows an empty folder in place of the embedded rows, whose labels are public."""

import sys
from dataclasses import replace

import pytest

from aarlab.core.layout import SHIPPED
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxSpec
from aarlab.verify.rerun import MASKED

LOOK = """
import pathlib, aarlab
shipped = pathlib.Path(aarlab.__file__).parent / "embedded"
print(sorted(path.name for path in shipped.rglob("*")))
"""


@pytest.mark.parametrize("masked", [(), MASKED])
def test_no_sandbox_holds_the_shipped_rows(spec: SandboxSpec, masked):
    assert (SHIPPED / "oversight" / "test.jsonl.gz").is_file()
    finished = run(replace(spec, masked=masked), [sys.executable, "-c", LOOK])
    assert finished.returncode == 0, finished.stderr
    assert finished.stdout.strip() == b"[]"
