"""A disk that is really full: requests fail with a clear error, and all goes on with space."""

import os
import subprocess
from pathlib import Path

import pytest
from platform_kit import TinyTask, platform

from aarlab.client.platform import PlatformClient
from aarlab.core.errors import AarlabError
from aarlab.core.layout import RunDir
from aarlab.core.wire import NewFinding, NewSnapshot, SnapshotFile
from aarlab.store.log import verify_log

SMALL, LARGE = "4m", "64m"


def mount(path: Path, *options: str) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(path)]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path):
    """A file system of 4 MB of its own."""
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() != 0 or not mount(disk, f"size={SMALL}", "mode=755"):
        pytest.skip("needs root and the right to mount a tmpfs")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(aar: PlatformClient, posted: list[str]) -> AarlabError:
    """Post until it fails; what was acknowledged is in `posted`."""
    for number in range(2000):
        text = f"{number} " * 4000
        post = NewFinding(kind="insight", title=str(number), text=text[:19_000])
        try:
            posted.append(aar.post_finding(post, key=f"k{number}").id)
        except AarlabError as error:
            return error
    raise AssertionError("the disk was never full")


@pytest.mark.usefixtures("unlimited_posts")
def test_a_full_disk_is_said_and_passes(small_disk: Path, tiny: TinyTask) -> None:
    run = RunDir(small_disk / "run")
    with platform(tiny, run) as running:
        token = running.token("a")
        with PlatformClient(running.address, token, deadline_s=0.5) as aar:
            posted: list[str] = []
            error = fill(aar, posted)
            assert "disk is full" in str(error) and "nothing was written" in str(error)
            code = SnapshotFile(path="method.py", content_b64="QUFB" * 300_000)
            with pytest.raises(AarlabError, match="disk is full"):
                aar.put_snapshot(NewSnapshot(name="m", files=[code]), key="s")
            assert [f.id for f in aar.findings()] == posted, "what was there can be read"
            assert mount(small_disk, "remount", f"size={LARGE}")
            again = NewFinding(kind="insight", title="again", text="t")
            posted.append(aar.post_finding(again, key="again").id)
            assert aar.put_snapshot(NewSnapshot(name="m", files=[code]), key="s").n_files == 1
            assert [f.id for f in aar.findings()] == posted
        verify_log(run.database)
        assert "Traceback" not in running.log_text()


@pytest.fixture
def unlimited_posts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("POSTS_PER_S", "POST_BURST"):
        monkeypatch.setenv(f"AARLAB_SERVER_{name}", "1000000")
