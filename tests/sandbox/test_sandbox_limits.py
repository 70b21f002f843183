"""Limits, time-outs and the end of whole trees, with and without isolation."""

import os
import signal
import subprocess
import sys
import threading
from dataclasses import replace

import pytest
from sandbox_attempts import LIMITS, living, python, shell, wait_until

from aarlab.core.errors import BadInput, NotFound
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import TAIL_BYTES, SandboxLimits, SandboxSpec

# Three daemons: forked twice, own session, deaf to signals that can be ignored.
DAEMONS = """
trap '' HUP TERM INT
for i in 1 2 3; do (setsid sleep "$1" >/dev/null 2>&1 &); done
echo started
"""


# Both are limited by the same code. What takes seconds is in the gate without isolation.
LONG = pytest.mark.parametrize(
    "either", ["bubblewrap", pytest.param("process", marks=pytest.mark.gate)], indirect=True
)


def limited(spec: SandboxSpec, **changes: float) -> SandboxSpec:
    return replace(spec, limits=replace(LIMITS, **changes))


def marker(number: int) -> str:
    return f"{os.getpid()}.{number}"


@LONG
def test_time_out_kills_daemons_too(either: SandboxSpec) -> None:
    word = marker(1001)
    done = shell(limited(either, wall_s=4), DAEMONS + 'sleep "$1"', word)
    assert done.timed_out and done.killed_by == "wall" and not done.ok
    assert done.stdout == b"started\n"
    assert living(word) == []


def test_daemons_do_not_outlive_their_command(either: SandboxSpec) -> None:
    word = marker(1002)
    done = shell(either, DAEMONS, word)
    assert done.ok and done.stdout == b"started\n"
    assert living(word) == []


def test_cancel_kills_the_tree(either: SandboxSpec) -> None:
    word, cancel = marker(1003), threading.Event()
    watcher = threading.Thread(
        target=lambda: (wait_until(lambda: len(living(word)) >= 4), cancel.set())
    )
    watcher.start()
    done = run(either, ["/bin/sh", "-c", DAEMONS + 'sleep "$1"', "sh", word], cancel=cancel)
    watcher.join()
    assert done.killed_by == "cancel" and not done.timed_out
    assert living(word) == []


def test_kill_9_of_the_supervisor_kills_the_tree(either: SandboxSpec) -> None:
    word = marker(1004)
    code = (
        "import sys; from pathlib import Path\n"
        "from aarlab.sandbox.spec import SandboxSpec\n"
        "from aarlab.sandbox.running import run\n"
        "uid = int(sys.argv[3]) or None\n"
        "spec = SandboxSpec(Path(sys.argv[1]), isolation=sys.argv[2], uid=uid)\n"
        "run(spec, ['/bin/sh', '-c', sys.argv[4], 'sh', sys.argv[5]])\n"
    )
    arguments = [str(either.workspace), either.isolation, str(either.uid or 0)]
    supervisor = subprocess.Popen(
        [sys.executable, "-c", code, *arguments, DAEMONS + 'sleep "$1"', word]
    )
    # The supervisor has the word on its own command line.
    assert wait_until(lambda: len(set(living(word)) - {supervisor.pid}) >= 4)
    supervisor.send_signal(signal.SIGKILL)
    supervisor.wait()
    assert wait_until(lambda: living(word) == [])


def test_interrupt_in_the_middle_leaves_nothing(either: SandboxSpec) -> None:
    class Interrupted:
        def is_set(self) -> bool:
            if len(living(word)) >= 4:
                raise KeyboardInterrupt
            return False

    word = marker(1005)
    with pytest.raises(KeyboardInterrupt):
        run(either, ["/bin/sh", "-c", DAEMONS + 'sleep "$1"', "sh", word], cancel=Interrupted())
    assert living(word) == []


def test_fork_bomb_is_held_and_ended(spec: SandboxSpec) -> None:
    word = marker(1006)
    done = shell(
        limited(spec, processes=20, wall_s=4), 'f() { f | f & }; (f); exec sleep "$1"', word
    )
    assert done.killed_by == "wall"
    assert b"fork" in done.stderr.lower()
    assert living(word) == []


def test_number_of_processes(either: SandboxSpec) -> None:
    code = (
        "import os, time\n"
        "made = 0\n"
        "try:\n"
        "    while made < 60:\n"
        "        if os.fork() == 0: time.sleep(50); os._exit(0)\n"
        "        made += 1\n"
        "except BlockingIOError: print('refused after', made, flush=True)\n"
        "else: time.sleep(50)\n"
    )
    done = python(limited(either, processes=20), code)
    if either.isolated:
        made = int(done.stdout.split()[-1])
        assert done.ok and 15 <= made < 20
    else:
        assert done.killed_by == "processes"


def test_long_output_is_cut_and_not_kept(either: SandboxSpec) -> None:
    done = shell(
        limited(either, output_kb=64), "head -c 10000000 /dev/zero; head -c 100 /dev/zero >&2"
    )
    assert done.ok and done.truncated
    assert len(done.stdout) == 64 * 1024 and len(done.stderr) == 100


def test_output_of_just_the_limit_is_whole(spec: SandboxSpec) -> None:
    done = shell(limited(spec, output_kb=64), "head -c 65536 /dev/zero")
    assert len(done.stdout) == 65536 and not done.truncated


def test_large_input_and_output_do_not_block_each_other(either: SandboxSpec) -> None:
    sent = os.urandom(3_000_000)
    done = run(limited(either, output_kb=4096), ["cat"], stdin=sent)
    assert done.ok and done.stdout == sent
    assert run(either, ["true"], stdin=sent).ok


def test_large_file_is_stopped(either: SandboxSpec) -> None:
    done = shell(limited(either, file_mb=1), "head -c 5000000 /dev/zero > big")
    assert done.returncode != 0
    assert (either.workspace / "big").stat().st_size <= 1_048_576
    killed = shell(limited(either, file_mb=1), "exec head -c 5000000 /dev/zero > big")
    assert killed.killed_by == "file" or b"File too large" in killed.stderr


def test_full_disk_is_stopped_and_may_be_tidied(either: SandboxSpec) -> None:
    tight = limited(either, disk_mb=4)
    fill = "for i in 1 2 3 4 5 6 7 8 9; do head -c 1000000 /dev/zero > f$i; done; sleep 40"
    assert shell(tight, fill).killed_by == "disk"
    assert shell(tight, "true").killed_by == "disk"
    assert shell(tight, "rm -f f*").ok


def test_deep_folders_count_as_a_full_disk(either: SandboxSpec) -> None:
    code = "import os\nfor _ in range(1100): os.mkdir('d'); os.chdir('d')"
    assert python(either, code).killed_by == "disk"
    shell(either, "rm -r d")


def test_temporary_folders_are_limited(spec: SandboxSpec) -> None:
    for folder in ("/tmp", "/dev/shm"):
        done = shell(limited(spec, tmp_mb=2), f"head -c 9000000 /dev/zero > {folder}/big")
        assert b"No space left" in done.stderr


def test_memory_of_one_process(either: SandboxSpec) -> None:
    done = python(limited(either, memory_mb=300), "bytearray(900_000_000)")
    assert b"MemoryError" in done.stderr and done.returncode == 1


def test_memory_of_the_tree(either: SandboxSpec) -> None:
    code = (
        "import os, time\n"
        "for _ in range(4):\n"
        "    if os.fork() == 0: break\n"
        "kept = bytearray(os.urandom(1)) * 120_000_000\n"
        "time.sleep(50)\n"
    )
    assert python(limited(either, memory_mb=300), code).killed_by == "memory"


@LONG
def test_cpu_of_one_process_and_of_the_tree(either: SandboxSpec) -> None:
    spin = "while :; do :; done"
    assert shell(limited(either, cpu_s=1), spin).killed_by == "cpu"
    assert shell(limited(either, cpu_s=1), f"trap '' XCPU; {spin}").killed_by == "cpu"
    many = f"for i in 1 2 3 4; do ({spin}) & done; wait"
    done = shell(limited(either, cpu_s=2), many)
    assert done.killed_by == "cpu"


def test_a_signal_names_the_cpu_limit_before_the_kernel_kills(either: SandboxSpec) -> None:
    assert shell(limited(either, cpu_s=7), "ulimit -St; ulimit -Ht").stdout == b"7\n8\n"


@LONG
def test_cpu_time_of_the_whole_tree_is_counted(either: SandboxSpec) -> None:
    spin = "import time\nwhile time.process_time() < 0.5: pass"
    orphan = f"(setsid {sys.executable} -c '{spin}' &) ; sleep 3"
    done = shell(either, f"{sys.executable} -c '{spin}'; {orphan}")
    assert done.ok and 0.9 < done.cpu_s < 5


def test_exit_codes(either: SandboxSpec) -> None:
    assert shell(either, "exit 7").returncode == 7
    assert shell(either, "kill -SEGV $$").returncode == 128 + signal.SIGSEGV
    assert run(either, ["no-such-program"]).returncode == 127
    assert shell(either, "kill -9 -1; kill -9 $$").returncode == 137 if either.isolated else True


def test_bad_descriptions_are_refused(spec: SandboxSpec) -> None:
    with pytest.raises(BadInput, match="wall_s is 0"):
        SandboxLimits(wall_s=0)
    with pytest.raises(NotFound, match="no workspace"):
        shell(replace(spec, workspace=spec.workspace / "none"), "true")
    with pytest.raises(BadInput, match="does not exist"):
        shell(replace(spec, read_only={spec.workspace / "none": "/data"}), "true")
    with pytest.raises(BadInput, match="absolute"):
        shell(replace(spec, read_only={spec.workspace: "/data/../etc"}), "true")
    with pytest.raises(BadInput, match="argv"):
        run(spec, [])
    with pytest.raises(BadInput, match="uid"):
        shell(replace(spec, uid=None if os.geteuid() == 0 else 61000), "true")


def test_a_full_disk_ends_the_program_and_is_not_only_said_of_it(either: SandboxSpec) -> None:
    tight = limited(either, disk_mb=20)
    fill = "head -c 1048576 /dev/zero > f$i; i=$((i+1)); sleep 0.1"
    done = shell(tight, f"i=0; while [ $i -lt 300 ]; do {fill}; done; touch it-came-to-its-end")
    assert done.killed_by == "disk"
    assert not (either.workspace / "it-came-to-its-end").exists()
    assert not (either.workspace / "f299").exists()


def test_of_ten_megabytes_no_more_than_start_and_end_is_kept(either: SandboxSpec) -> None:
    done = shell(either, "head -c 10000000 /dev/zero; echo the-end")
    assert done.truncated and done.stdout_tail.endswith(b"the-end\n")
    assert len(done.stdout) == either.limits.output_kb * 1024
    assert len(done.stdout_tail) <= TAIL_BYTES
