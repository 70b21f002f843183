"""Signals from one sandbox to another through files that both see read-only."""

import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from sandbox_attempts import python, wait_until

from aarlab.sandbox.running import run
from aarlab.sandbox.spec import Finished, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

INOTIFY = """
import ctypes, os, select
libc = ctypes.CDLL(None, use_errno=True)
handle = libc.inotify_init()
assert handle >= 0, os.strerror(ctypes.get_errno())
assert libc.inotify_add_watch(handle, b"/public", 0x20) >= 0  # IN_OPEN
open("ready", "w").close()
if select.select([handle], [], [], 20)[0]:
    print("BREACH", os.read(handle, 4096))
"""
DNOTIFY = """
import fcntl, os, signal, time
signal.signal(signal.SIGIO, lambda *_: (print("BREACH", flush=True), os._exit(0)))
folder = os.open("/public", os.O_RDONLY)
fcntl.fcntl(folder, fcntl.F_NOTIFY, fcntl.DN_ACCESS | fcntl.DN_MULTISHOT)
open("ready", "w").close()
time.sleep(20)
"""
LEASE = """
import fcntl, os
open("mine", "w").close()
fcntl.fcntl(os.open("mine", os.O_RDONLY), fcntl.F_SETLEASE, fcntl.F_RDLCK)
print("BREACH")
"""
READ = "open('/public/row').read()"
ATTACKS = {"inotify": INOTIFY, "directory notification": DNOTIFY}


@dataclass
class Two:
    """A sandbox that watches and one that reads, with one folder in both."""

    watcher: SandboxSpec
    reader: SandboxSpec

    def attempt(self, code: str) -> Finished:
        found: list[Finished] = []
        argv = [sys.executable, "-c", code]
        watching = threading.Thread(target=lambda: found.append(run(self.watcher, argv)))
        watching.start()
        ready = self.watcher.workspace / "ready"
        wait_until(lambda: ready.exists() or not watching.is_alive())
        if watching.is_alive():
            assert python(self.reader, READ).ok
        watching.join()
        return found[0]


@pytest.fixture
def two(spec: SandboxSpec, tmp_path: Path) -> Two:
    public = tmp_path / "public"
    public.mkdir(mode=0o755)
    (public / "row").write_text("text")
    other = tmp_path / "aar-1"
    prepare_workspace(other, aar_uid(1))
    shared = {public: "/public"}
    watcher = replace(spec, read_only=shared)
    return Two(watcher, replace(watcher, workspace=other, uid=aar_uid(1)))


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_sandbox_learns_when_another_reads(attack: str, two: Two) -> None:
    done = two.attempt(ATTACKS[attack])
    assert done.stdout == b"" and done.returncode == 1, done
    refused = (b"Function not implemented", b"Operation not permitted")
    assert any(words in done.stderr for words in refused), done


@pytest.mark.parametrize("attack", ATTACKS)
def test_without_the_filter_it_learns_that(
    attack: str, two: Two, open_filter: Callable[[], None]
) -> None:
    open_filter()
    done = two.attempt(ATTACKS[attack])
    assert b"BREACH" in done.stdout, f"the attack itself is broken: {done}"


def test_a_lease_is_had_without_the_filter_only(
    spec: SandboxSpec, open_filter: Callable[[], None]
) -> None:
    assert b"PermissionError" in python(spec, LEASE).stderr
    open_filter()
    assert python(spec, LEASE).stdout == b"BREACH\n"
