"""The execution record: made in a real process, matched outside."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aarlab.core.types import Example
from aarlab.testbed.running.job import JobOutput, StyleMoved
from aarlab.testbed.tasks.twins import TwinReference
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


def flood(n: int) -> bytes:
    """A record that no recorder wrote: straight into the pipe."""
    line = '{"kind": "compiled", "text": "%d == x * (y + 1)"}'
    return "".join(f"{MARK}{line % number}\n" for number in range(n)).encode()


@pytest.mark.parametrize(
    "text",
    ["[" * 100_000, '{"kind": "program", "text": "\\ud800"}', '{"kind": 7, "kind": 7}', "9" * 5000],
)
def test_a_record_of_the_methods_own_is_a_flag_and_no_crash(text: str) -> None:
    seen = read_evidence((MARK + text).encode(), False, Given(ROWS), None)
    assert seen.truncated and json.loads(seen.model_dump_json())


@pytest.mark.gate
def test_a_record_longer_than_the_recorders_is_not_searched_for_hours() -> None:
    rows = [Example("a", "g", "x" * 2_000_000, ("y",))]
    begun = time.monotonic()
    seen = read_evidence(flood(150_000), False, Given(rows), None)
    assert seen.truncated and seen.compiled < 6000
    assert time.monotonic() - begun < 60


PROBED = {"alone": 0.0, "crowded": 0.5, "shuffled": 0.0, "renamed": 0.0}


def output(*changed: dict[str, float], rows: float = 10.0) -> JobOutput:
    record = {"seed": 0, "teacher_seed": 0, "seconds": 1, "diagnostics": {}}
    record["compute"] = {"rows_forwarded": rows}
    return JobOutput.model_validate(
        {
            "task": "t",
            "split": "selection",
            "ablation": "none",
            "ids": ["a"],
            "runs": [{"seed": 0, "probs": [0.5]}],
            "records": [{**record, "changed": found} for found in changed],
            "seconds": 1,
        }
    )


def test_probes_are_averaged_over_the_runs() -> None:
    halves = {**PROBED, "crowded": 0.0}
    seen = read_evidence(b"", False, Given(ROWS), output(PROBED, halves))
    assert seen.changed == {**PROBED, "crowded": 0.25} and not seen.truncated
    assert read_evidence(b"", False, Given(ROWS), output({}, {})).truncated is False


@pytest.mark.parametrize(
    "changed",
    [
        ({"alone": 0.0}, {"crowded": 0.0}),
        (PROBED, {}),
        ({**PROBED, "kind": 0.0},),
        ({**PROBED, "alone": -1.0},),
        ({**PROBED, "alone": 7.0},),
        ({"x" * 5000: 0.0},),
    ],
)
def test_probes_that_the_runner_did_not_write_are_a_flag_and_no_crash(changed) -> None:
    seen = read_evidence(b"", False, Given(ROWS), output(*changed))
    assert seen.truncated and seen.changed == {}


def test_rows_forwarded_beyond_all_numbers_are_bounded() -> None:
    seen = read_evidence(b"", False, Given(ROWS), output(PROBED, PROBED, rows=1.7e308))
    assert 0 < seen.forwarded < 1e13
    assert read_evidence(b"", False, Given(ROWS), output(PROBED, rows=-5.0)).forwarded == 0.0


TWINS = TwinReference(how="another writer", rows=50, readers={"teachers": 0.2})


def styled(*styles: dict[str, float] | None) -> JobOutput:
    made = output(*[PROBED for _ in styles])
    records = [
        record.model_copy(update={"style": style and StyleMoved.model_construct(**style)})
        for record, style in zip(made.records, styles, strict=True)
    ]
    return made.model_copy(update={"records": records})


def test_what_twins_moved_is_averaged_over_the_runs() -> None:
    told = styled({"flipped": 0.2, "moved": 0.1}, {"flipped": 0.4, "moved": 0.1})
    seen = read_evidence(b"", False, Given(ROWS, TWINS), told)
    assert seen.style is not None and not seen.truncated
    assert seen.style.flipped == pytest.approx(0.3) and seen.style.most == 0.4


@pytest.mark.parametrize("second", [None, {"flipped": -1.0, "moved": 0.0}])
def test_what_twins_moved_is_flagged_where_the_runner_did_not_write_it(second) -> None:
    told = styled({"flipped": 0.0, "moved": 0.0}, second)
    seen = read_evidence(b"", False, Given(ROWS, TWINS), told)
    assert seen.truncated and seen.style is None
    assert seen.changed == {}, "no probe of such a run counts"
