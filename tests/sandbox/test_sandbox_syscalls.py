"""The system call filter, tried call by call. An ordinary program keeps working."""

import errno
import os
import platform
from dataclasses import replace

import pytest
from sandbox_attempts import python, shell

from aarlab.sandbox.spec import SandboxSpec

PRELUDE = """
import ctypes, errno, sys
libc = ctypes.CDLL(None, use_errno=True)
def report(value):
    print("BREACH" if value >= 0 else errno.errorcode[ctypes.get_errno()])
"""
CALLS = {
    "unshare user": ("report(libc.unshare(0x10000000))", "EPERM"),
    "unshare files": ("report(libc.unshare(0x400))", "EPERM"),
    "setns": ("report(libc.setns(open('/proc/self/ns/net').fileno(), 0))", "EPERM"),
    "mount": ("report(libc.mount(b'none', b'/tmp', b'tmpfs', 0, None))", "EPERM"),
    "umount": ("report(libc.umount2(b'/workspace', 2))", "EPERM"),
    "chroot": ("report(libc.chroot(b'/tmp'))", "EPERM"),
    "ptrace": ("report(libc.ptrace(0, 0, 0, 0))", "EPERM"),
    "settime": ("report(libc.clock_settime(0, ctypes.c_buffer(16)))", "EPERM"),
    "hostname": ("report(libc.sethostname(b'x', 1))", "EPERM"),
    "vsock": ("report(libc.socket(40, 1, 0))", "EAFNOSUPPORT"),
    "netlink": ("report(libc.socket(16, 3, 0))", "EAFNOSUPPORT"),
    "packet": ("report(libc.socket(17, 3, 0))", "EAFNOSUPPORT"),
    "appletalk": ("report(libc.socket(5, 2, 0))", "EAFNOSUPPORT"),
    "raw": ("report(libc.socket(2, 3, 1))", "EPERM"),
    "notify": ("report(libc.fcntl(0, 1026, 1))", "EPERM"),
    "lease": ("report(libc.fcntl(0, 1024, 0))", "EPERM"),
    "lease, upper bit": ("report(libc.syscall(72, 0, ctypes.c_ulong(1 << 40 | 1024), 0))", "EPERM"),
    "shared anonymous memory": ("report(int(libc.mmap(0, 4096, 3, 0x21, -1, 0)))", "ENODEV"),
    "tiocsti": ("report(libc.ioctl(0, ctypes.c_ulong(0x5412), b'x'))", "EPERM"),
    "tiocsti, upper bit": (
        "report(libc.ioctl(0, ctypes.c_ulong(1 << 40 | 0x5412), b'x'))",
        "EPERM",
    ),
}
X86_NUMBERS = {
    "clone3": (435, "ENOSYS"),
    "io_uring_setup": (425, "ENOSYS"),
    "bpf": (321, "EPERM"),
    "keyctl": (250, "EPERM"),
    "perf_event_open": (298, "EPERM"),
    "userfaultfd": (323, "EPERM"),
    "kexec_load": (246, "EPERM"),
    "init_module": (175, "EPERM"),
    "process_vm_readv": (310, "EPERM"),
    "open_by_handle_at": (304, "EPERM"),
    "move_mount": (429, "EPERM"),
    "pidfd_getfd": (438, "EPERM"),
    "fanotify_init": (300, "EPERM"),
    "fanotify_mark": (301, "EPERM"),
    "memfd_create": (319, "ENOSYS"),
    "vmsplice": (278, "ENOSYS"),
    "io_setup": (206, "ENOSYS"),
    "shmget": (29, "ENOSYS"),
    "semget": (64, "ENOSYS"),
    "msgget": (68, "ENOSYS"),
    "mq_open": (240, "ENOSYS"),
    "inotify_init": (253, "ENOSYS"),
    "inotify_init1": (294, "ENOSYS"),
    "inotify_add_watch": (254, "ENOSYS"),
    "cachestat": (451, "ENOSYS"),
}


@pytest.mark.parametrize("call", CALLS)
def test_call_is_denied(call: str, spec: SandboxSpec) -> None:
    code, expected = CALLS[call]
    done = python(spec, PRELUDE + code)
    assert done.stdout.decode().strip() == expected, done.stderr


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers are those of x86-64")
def test_calls_by_number_are_denied(spec: SandboxSpec) -> None:
    code = "\n".join(
        f"report(libc.syscall({number}, 0, 0, 0, 0, 0))" for number, _ in X86_NUMBERS.values()
    )
    expected = [answer for _, answer in X86_NUMBERS.values()]
    assert python(spec, PRELUDE + code).stdout.decode().split() == expected


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers are those of x86-64")
def test_raw_clone_into_a_namespace_is_denied(spec: SandboxSpec) -> None:
    for flag in (0x10000000, 0x00020000, 0x20000000, 0x40000000):
        done = python(spec, PRELUDE + f"report(libc.syscall(56, {flag} | 17, 0, 0, 0, 0))")
        assert done.stdout == b"EPERM\n"


def test_namespace_tool_works_without_the_sandbox_only(spec: SandboxSpec) -> None:
    script = "unshare --user true && echo BREACH"
    assert shell(replace(spec, isolation="process"), script).stdout == b"BREACH\n"
    inside = shell(spec, script)
    assert inside.stdout == b"" and os.strerror(errno.EPERM).encode() in inside.stderr


def test_ordinary_programs_work(spec: SandboxSpec) -> None:
    code = (
        "import threading, subprocess, multiprocessing, socket, tempfile, sqlite3\n"
        "t = threading.Thread(target=print, args=('thread',)); t.start(); t.join()\n"
        "print(subprocess.run(['echo', 'child'], capture_output=True).stdout)\n"
        "a, b = socket.socketpair(); a.send(b'pair'); print(b.recv(9))\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool: print(pool.map(abs, [-1, -2]))\n"
        "tempfile.TemporaryFile().write(b'x'); sqlite3.connect('/workspace/a.db')\n"
        "s = socket.create_server(('127.0.0.1', 0)); socket.create_connection(s.getsockname())\n"
        "print('loopback')\n"
    )
    done = python(spec, code)
    assert done.ok, done.stderr
    assert done.stdout == b"thread\nb'child\\n'\nb'pair'\n[1, 2]\nloopback\n"


def test_forbid_exec_holds_for_threads_and_children(spec: SandboxSpec) -> None:
    code = (
        "import os, subprocess, threading\n"
        "from aarlab.sandbox.syscalls import forbid_exec\n"
        "subprocess.run(['true'], check=True)\n"
        "begin = threading.Event()\n"
        "def attempt(where):\n"
        "    begin.wait()\n"
        "    try: os.execv('/bin/echo', ['echo', 'BREACH'])\n"
        "    except PermissionError: print('denied', where, flush=True)\n"
        "early = threading.Thread(target=attempt, args=('thread',)); early.start()\n"
        "forbid_exec(); begin.set(); early.join()\n"
        "pid = os.fork()\n"
        "attempt('child' if pid == 0 else 'main')\n"
        "if pid == 0: os._exit(0)\n"
        "os.waitpid(pid, 0)\n"
    )
    done = python(spec, code)
    assert done.ok, done.stderr
    assert sorted(done.stdout.decode().split("\n")) == [
        *("", "denied child", "denied main", "denied thread")
    ]
