"""The execution record: made in a real process, matched outside."""

import subprocess
import sys
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.types import Example
from aarlab.verify.evidence import Given, read_evidence
from aarlab.verify.record import MARK

CODE = "def area(w, h):\n    total = w * h\n    return total + 1"
ROWS = [Example("a", "g", "What is 31 + 45?", ("31 + 45 = 76",)), Example("b", "g", "p", (CODE,))]


def record(script: str, tmp_path: Path):
    path = tmp_path / "method.py"
    path.write_text(script)
    code = (
        "import sys, runpy\nfrom pathlib import Path\n"
        "from aarlab.verify.record import start_recording\n"
        f"source = Path({str(path)!r}).read_text()\n"
        f"start_recording([Path({str(tmp_path)!r})])\n"
        f"exec(compile(source, {str(path)!r}, 'exec'), {{}})\n"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    return read_evidence(done.stdout, False, Given(ROWS), None), done


def test_honest_code_leaves_a_clean_record(tmp_path: Path) -> None:
    seen, done = record("import json, dataclasses\nprint(json.dumps([1]))", tmp_path)
    assert (seen.programs, seen.reached, seen.row_texts, seen.truncated) == ([], [], 0, False)
    assert b"[1]" in done.stderr, "prints of a method must not mix with the record"


def test_text_of_the_rows_is_recognised_however_it_is_cut(tmp_path: Path) -> None:
    script = (
        f"exec({CODE!r})\neval('31+45')\nimport ast\n"
        f"ast.parse({CODE.replace('total', 'total ')!r} + '\\n\\nprint(area(2, 3))')\n"
        "exec('x = 17 * 3')\n"
    )
    seen, _ = record(script, tmp_path)
    assert seen.row_texts == 3
    assert not any("17" in piece for piece in seen.examples)


def test_a_false_file_name_does_not_hide_source(tmp_path: Path) -> None:
    seen, _ = record(f"compile({CODE!r}, {__file__!r}, 'exec')", tmp_path)
    assert seen.row_texts == 1


def test_programs_sockets_and_files_are_named(tmp_path: Path) -> None:
    script = (
        "import os, socket\nos.system('true')\n"
        "try:\n    socket.create_connection(('127.0.0.1', 9), 0.1)\nexcept OSError: pass\n"
        "try:\n    open('/vault/truth')\nexcept OSError: pass\n"
        "os.listdir('/')\n"
    )
    seen, _ = record(script, tmp_path)
    assert seen.programs == ["os.system (b'true',)"]
    assert any("socket.connect" in line for line in seen.reached)
    assert "open /vault/truth" in seen.reached and "os.listdir /" in seen.reached


def test_a_flooded_record_says_that_it_is_incomplete(tmp_path: Path) -> None:
    seen, _ = record("for i in range(6000): eval(f'{i} + 1')", tmp_path)
    assert seen.truncated


@given(st.binary(max_size=400), st.booleans())
def test_any_record_can_be_read(raw: bytes, marked: bool) -> None:
    line = MARK.encode() + raw if marked else raw
    read_evidence(line, False, Given(ROWS), None)
