"""The seccomp filter: a list of denied system calls, everything else allowed.

Covered: new user and other namespaces, mounts, ptrace and reading other processes' memory, kernel
modules, kexec, bpf, perf, keyrings, userfaultfd, io_uring, handles to files by inode, clock and
host name changes, pushing characters into a terminal (TIOCSTI), and sockets of every family but
unix and IP (vsock would leave the network namespace). 32-bit and x32 calls kill the process.
Memory that no limit counts: memfd, SysV and POSIX queues, SysV segments and semaphores, pages
handed to a pipe (vmsplice), shared anonymous mappings. Watching files that other sandboxes see as
well: inotify, fanotify, F_NOTIFY, leases.
Not covered: flaws in allowed system calls; programs that are started (see `forbid_exec`); locks on
shared files, which carry signals between sandboxes.
"""

import errno
import functools
import importlib
import os
from types import ModuleType
from typing import Any

from aarlab.core.errors import SandboxUnavailable

_DENIED = (
    "unshare setns mount umount2 pivot_root chroot fsopen fsconfig fsmount fspick move_mount "
    "open_tree mount_setattr ptrace process_vm_readv process_vm_writev kcmp pidfd_getfd bpf "
    "keyctl add_key request_key perf_event_open kexec_load kexec_file_load init_module "
    "finit_module delete_module userfaultfd open_by_handle_at name_to_handle_at acct swapon "
    "swapoff reboot syslog quotactl quotactl_fd settimeofday clock_settime clock_adjtime "
    "adjtimex sethostname setdomainname fanotify_init fanotify_mark lookup_dcookie vhangup "
)
_X86_DENIED = ["iopl", "ioperm", "modify_ldt"]
# These answer "no such call", so that a libc or a runtime falls back instead of giving up: the
# flags of clone3 lie in memory where a filter cannot read them.
_ABSENT = (
    "clone3 io_uring_setup io_uring_enter io_uring_register memfd_create memfd_secret vmsplice "
    "io_setup io_submit shmget shmat shmdt shmctl semget semop semtimedop semctl msgget msgsnd "
    "msgrcv msgctl mq_open mq_unlink mq_timedsend mq_timedreceive mq_notify mq_getsetattr "
    "inotify_init inotify_init1 inotify_add_watch inotify_rm_watch cachestat "
)
# Not known to every libseccomp, or not to every architecture; the older mount, clone and quotactl
# paths are denied in any case.
_MAY_BE_UNKNOWN = {
    *("mount_setattr", "quotactl_fd", "pidfd_getfd", "lookup_dcookie", "memfd_secret"),
    *("cachestat", "inotify_init", *_X86_DENIED),
}
_NEW_NAMESPACE_FLAGS = (
    0x00020000,  # mount
    0x02000000,  # cgroup
    0x04000000,  # uts
    0x08000000,  # ipc
    0x10000000,  # user
    0x20000000,  # pid
    0x40000000,  # net
)
_TERMINAL_REQUESTS = (0x5412, 0x541C)  # TIOCSTI, TIOCLINUX
_WATCHING_COMMANDS = (1024, 1025, 1026)  # F_SETLEASE, F_GETLEASE, F_NOTIFY
_SHARED_ANONYMOUS = 0x21  # MAP_SHARED or MAP_SHARED_VALIDATE, with MAP_ANONYMOUS
_LAST_FAMILY = 10  # AF_INET6
_FAMILIES_BELOW = range(3, 10)  # AX.25 to X.25; 1 is unix, 2 is IPv4


def load_pyseccomp() -> ModuleType:
    """Return the optional binding; raises SandboxUnavailable when it or libseccomp is missing."""
    try:
        return importlib.import_module("pyseccomp")
    except ImportError as error:
        raise SandboxUnavailable(
            "the Python package pyseccomp is missing; run: pip install 'aarlab[sandbox]'"
        ) from error
    except RuntimeError as error:
        raise SandboxUnavailable(
            "libseccomp is not installed, so the sandbox would have no system call filter; "
            "run: apt-get install libseccomp2 (or your system's package of that name)"
        ) from error


@functools.cache
def filter_program() -> bytes:
    """Return the filter as BPF instructions, as `bwrap --seccomp` reads them."""
    seccomp = load_pyseccomp()
    rules = _deny_list(seccomp)
    with os.fdopen(os.memfd_create("filter"), "w+b") as out:
        rules.export_bpf(out)
        out.flush()
        out.seek(0)
        return out.read()


def forbid_exec() -> None:
    """Forbid this process, all its threads and its children to start any other program.

    Called inside a sandbox by the runner of a verified method, before the method's code is
    imported.
    """
    seccomp = load_pyseccomp()
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.CTL_TSYNC, 1)
    for name in ("execve", "execveat"):
        rules.add_rule(seccomp.ERRNO(errno.EPERM), name)
    rules.load()


def _deny_list(seccomp: ModuleType) -> Any:
    rules = seccomp.SyscallFilter(seccomp.ALLOW)
    deny = seccomp.ERRNO(errno.EPERM)
    x86 = [] if os.uname().machine != "x86_64" else _X86_DENIED
    for name in [*_DENIED.split(), *x86]:
        _add(rules, deny, name)
    for name in _ABSENT.split():
        _add(rules, seccomp.ERRNO(errno.ENOSYS), name)
    for flag in _NEW_NAMESPACE_FLAGS:
        rules.add_rule(deny, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    for request in _TERMINAL_REQUESTS:
        # The kernel reads 32 bits of the request: so must the filter, or a set upper bit passes it.
        rules.add_rule(deny, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, request))
    for command in _WATCHING_COMMANDS:
        rules.add_rule(deny, "fcntl", seccomp.Arg(1, seccomp.MASKED_EQ, 0xFFFFFFFF, command))
    shared = seccomp.Arg(3, seccomp.MASKED_EQ, _SHARED_ANONYMOUS, _SHARED_ANONYMOUS)
    rules.add_rule(seccomp.ERRNO(errno.ENODEV), "mmap", shared)
    no_family = seccomp.ERRNO(errno.EAFNOSUPPORT)
    for call in ("socket", "socketpair"):
        rules.add_rule(no_family, call, seccomp.Arg(0, seccomp.GT, _LAST_FAMILY))
        for family in _FAMILIES_BELOW:
            rules.add_rule(no_family, call, seccomp.Arg(0, seccomp.EQ, family))
    return rules


def _add(rules: Any, action: int, name: str) -> None:
    try:
        rules.add_rule(action, name)
    except (OSError, ValueError) as error:
        if name not in _MAY_BE_UNKNOWN:
            raise SandboxUnavailable(
                f"libseccomp does not know the system call {name!r} ({error}); install 2.5 or later"
            ) from error
