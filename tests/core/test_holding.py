"""Who holds a campaign: read from a note, believed while its process lives."""

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from platform_kit import wait_for

from aarlab.core.holding import Holder, holder, noted

HOLD = (
    "import sys, time; from pathlib import Path; from aarlab.core.holding import noted\n"
    "with noted(Path(sys.argv[1]), 'run'): time.sleep(60)"
)


def test_a_note_counts_while_it_is_held(tmp_path: Path) -> None:
    path = tmp_path / ".holder"
    assert holder(path) is None
    with noted(path, "verify"):
        assert holder(path) == Holder(os.getpid(), "verify")
    assert holder(path) is None and not path.exists()


def test_a_killed_process_holds_nothing_although_its_note_is_there(tmp_path: Path) -> None:
    path = tmp_path / ".holder"
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)])
    wait_for(lambda: holder(path) == Holder(process.pid, "run"), 60)
    process.send_signal(signal.SIGKILL)
    wait_for(lambda: holder(path) is None)  # also before anyone has waited for it
    process.wait()
    assert path.exists() and holder(path) is None


def test_a_reused_process_id_and_a_copied_folder_hold_nothing(tmp_path: Path) -> None:
    path = tmp_path / ".holder"
    with noted(path, "run"):
        note = json.loads(path.read_text())
        (tmp_path / "copy").mkdir()
        shutil.copy(path, tmp_path / "copy")
        assert holder(tmp_path / "copy" / ".holder") is None
        path.write_text(json.dumps({**note, "started": f"{note['started']}1"}))
        assert holder(path) is None


@pytest.mark.parametrize("text", ["", "{", "[]", '{"pid": 1}', '{"pid": "x", "started": null}'])
def test_a_damaged_note_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / ".holder").write_text(text)
    assert holder(tmp_path / ".holder") is None
