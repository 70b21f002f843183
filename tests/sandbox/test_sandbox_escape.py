"""Live attempts from inside. Each script prints BREACH when it gets what it wants.

The same script run without isolation must print BREACH where that is harmless: so a script that
fails for another reason (a typing error, a missing file) is noticed.
"""

import os
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from greeters import greeters
from sandbox_attempts import python, shell

from aarlab.sandbox.spec import SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

CANARY = "canary-7d1f"


@dataclass(frozen=True)
class Outside:
    vault_file: Path
    database: Path
    other_workspace: Path
    tcp_port: int
    abstract_name: str
    unix_path: Path
    host_pid: int
    host_marker: str


@pytest.fixture
def outside(
    tmp_path: Path, spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Outside]:
    """A vault, a database, another AAR, listeners and a process, all readable to their owner."""
    vault = tmp_path / "vault"
    vault.mkdir(mode=0o700)
    truth = vault / "truth.jsonl"
    truth.write_text(CANARY)
    truth.chmod(0o600)
    database = tmp_path / "platform.db"
    with sqlite3.connect(database) as connection:
        connection.execute("create table truth (label text)")
        connection.execute("insert into truth values (?)", (CANARY,))
    connection.close()
    other = tmp_path / "aar-1"
    prepare_workspace(other, aar_uid(1))
    (other / "notes.txt").write_text(CANARY)
    monkeypatch.setenv("AARLAB_TEST_KEY", CANARY)
    marker = f"{os.getpid()}.271828"
    abstract_name = f"aarlab-test-{os.getpid()}"
    unix_path = tmp_path / "operator.sock"
    with greeters(CANARY, "\0" + abstract_name, str(unix_path)) as port:
        unix_path.chmod(0o666)
        process = subprocess.Popen(["sleep", marker], cwd=vault)
        try:
            pid = process.pid
            yield Outside(truth, database, other, port, abstract_name, unix_path, pid, marker)
        finally:
            process.kill()
            process.wait()


READ = "import sys; print('BREACH' if open(sys.argv[1]).read() else '')"
CONNECT = """
import socket, sys
family, address = sys.argv[1], sys.argv[2]
s = socket.socket(getattr(socket, family))
s.settimeout(10)
if family == "AF_INET":
    host, _, port = address.partition(":")
    address = (host, int(port))
elif address.startswith("@"):
    address = "\\0" + address[1:]
s.connect(address)
print("BREACH", s.recv(99))
"""
# The word is handed over backwards: the command line of the attack itself must not match.
FIND_PROCESS = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    if sys.argv[1].encode()[::-1] in open(f"/proc/{pid}/cmdline", "rb").read():
        print("BREACH")
"""
FIND_CANARY_IN_PROC = """
import os, sys
for pid in filter(str.isdigit, os.listdir("/proc")):
    for name in ("environ", "cmdline", "mountinfo"):
        try:
            content = open(f"/proc/{pid}/{name}", "rb").read()
        except OSError:
            continue
        if sys.argv[1].encode()[::-1] in content:
            print("BREACH", pid, name)
"""
SQLITE = """
import sqlite3, sys
rows = sqlite3.connect(f"file:{sys.argv[1]}?mode=ro", uri=True).execute("select * from truth")
print("BREACH", list(rows))
"""
LIST = "import os, sys; print('BREACH', os.listdir(sys.argv[1]))"
SIGNAL = "import os, sys; os.kill(int(sys.argv[1]), 0); print('BREACH')"


def scripts(outside: Outside) -> dict[str, tuple[str, str | int, str | None]]:
    pid = outside.host_pid
    return {
        "vault by path": (READ, str(outside.vault_file), None),
        "vault through pid 1": (READ, f"/proc/1/root{outside.vault_file}", None),
        "vault through a root": (READ, f"/proc/{pid}/root{outside.vault_file}", None),
        "vault through a process": (READ, f"/proc/{pid}/cwd/truth.jsonl", None),
        "environment of a process": (READ, f"/proc/{os.getpid()}/environ", None),
        "memory map of a process": (READ, f"/proc/{pid}/maps", None),
        "database": (SQLITE, str(outside.database), None),
        "other workspace": (READ, str(outside.other_workspace / "notes.txt"), None),
        "folder above": (LIST, str(outside.vault_file.parents[1]), None),
        "tcp to this machine": (CONNECT, "AF_INET", f"127.0.0.1:{outside.tcp_port}"),
        "abstract socket": (CONNECT, "AF_UNIX", f"@{outside.abstract_name}"),
        "unix socket by path": (CONNECT, "AF_UNIX", str(outside.unix_path)),
        "see a process": (FIND_PROCESS, outside.host_marker[::-1], None),
        "signal a process": (SIGNAL, pid, None),
    }


ATTACKS = (
    "vault by path",
    "vault through pid 1",
    "vault through a root",
    "vault through a process",
    "environment of a process",
    "memory map of a process",
    "database",
    "other workspace",
    "folder above",
    "tcp to this machine",
    "abstract socket",
    "unix socket by path",
    "see a process",
    "signal a process",
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_attack_fails_inside_and_works_outside(
    attack: str, spec: SandboxSpec, outside: Outside
) -> None:
    code, *args = scripts(outside)[attack]
    words = [word for word in args if word is not None]
    # Outside, pid 1 may be closed to everybody; inside it is bubblewrap's.
    if attack != "vault through pid 1":
        unprotected = python(replace(spec, isolation="process"), code, *words)
        assert b"BREACH" in unprotected.stdout, f"the attack itself is broken: {unprotected}"
    inside = python(spec, code, *words)
    assert b"BREACH" not in inside.stdout
    assert CANARY.encode() not in inside.stdout
    assert inside.returncode == (0 if attack == "see a process" else 1), inside


def test_vault_is_closed_by_its_uid_even_where_it_is_mounted(
    as_root: None, spec: SandboxSpec, outside: Outside
) -> None:
    vault = outside.vault_file.parent
    done = python(replace(spec, read_only={vault: "/vault"}), READ, "/vault/truth.jsonl")
    assert b"PermissionError" in done.stderr


def test_root_owned_private_file_in_a_bound_folder_is_closed(
    as_root: None, spec: SandboxSpec, tmp_path: Path
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    for name, mode in (("open.txt", 0o644), ("private.txt", 0o600)):
        (public / name).write_text(CANARY)
        (public / name).chmod(mode)
    bound = replace(spec, read_only={public: "/data/public"})
    assert b"BREACH" in python(bound, READ, "/data/public/open.txt").stdout
    closed = python(bound, READ, "/data/public/private.txt")
    assert closed.returncode == 1 and b"PermissionError" in closed.stderr


def test_read_only_data_cannot_be_changed_even_when_its_mode_allows(
    spec: SandboxSpec, tmp_path: Path
) -> None:
    public = tmp_path / "public"
    public.mkdir()
    public.chmod(0o777)
    (public / "inputs.jsonl").write_text("{}")
    (public / "inputs.jsonl").chmod(0o666)
    bound = replace(spec, read_only={public: "/data"})
    done = shell(bound, "echo x >> /data/inputs.jsonl; rm -f /data/inputs.jsonl; touch /data/new")
    assert done.stderr.count(b"Read-only file system") == 3
    assert [p.name for p in public.iterdir()] == ["inputs.jsonl"]
    assert (public / "inputs.jsonl").read_text() == "{}"


def test_nothing_but_the_workspace_and_temporary_folders_can_be_written(spec: SandboxSpec) -> None:
    done = shell(
        spec,
        "find / -path /proc -prune -o -type d -writable -print 2>/dev/null; "
        "touch /x /etc/x /usr/x /dev/x /dev/pts/x 2>&1 | grep -c 'cannot touch'",
    )
    *folders, refused = done.stdout.decode().split()
    # /dev/pts may look writable, but is a file system that takes no files. Below the sandbox's own
    # /tmp there may be mount points, where the repository itself lies below /tmp.
    found = {folder for folder in folders if not folder.startswith("/tmp/")}
    assert found - {"/dev/pts"} == {"/tmp", "/dev/shm", "/workspace"}
    assert refused == "5"


def test_environment_holds_nothing_of_the_host(
    spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", CANARY)
    monkeypatch.setenv("NPY_DISABLE_CPU_FEATURES", f"{CANARY};")  # not a list of names
    for name in ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE"):
        monkeypatch.delenv(name, raising=False)
    done = python(
        replace(spec, env={"AARLAB_TASK": "math"}), "import os; print(*sorted(os.environ))"
    )
    names = set(done.stdout.decode().split())
    assert names - {"OLDPWD", "PWD", "LC_CTYPE"} == {
        *("AARLAB_TASK", "HOME", "LANG", "PATH", "PYTHONDONTWRITEBYTECODE", "TMPDIR")
    }
    assert python(spec, FIND_CANARY_IN_PROC, CANARY[::-1]).stdout == b""


@pytest.mark.parametrize("core", ["Haswell", "SkylakeX"])
def test_libraries_compute_as_they_do_outside(
    spec: SandboxSpec, monkeypatch: pytest.MonkeyPatch, core: str
) -> None:
    """Other instructions give other last bits, and sandboxed runs are compared to the bit."""
    monkeypatch.setenv("OPENBLAS_CORETYPE", core)
    done = python(spec, "import os; print(os.environ['OPENBLAS_CORETYPE'])")
    assert done.stdout.decode().split() == [core]


def test_no_descriptor_is_inherited_and_stdin_is_empty(spec: SandboxSpec, tmp_path: Path) -> None:
    with (tmp_path / "secret").open("w") as kept_open:
        os.set_inheritable(kept_open.fileno(), True)
        done = python(
            spec,
            "import os, sys\n"
            "for name in sorted(os.listdir('/proc/self/fd')):\n"
            "    try: print(name, os.readlink(f'/proc/self/fd/{name}').split(':')[0])\n"
            "    except FileNotFoundError: pass\n"
            "print(repr(sys.stdin.read()))",
        )
    assert done.stdout.decode().splitlines() == ["0 /dev/null", "1 pipe", "2 pipe", "''"]


def test_no_capability_no_new_privilege_one_filter(spec: SandboxSpec) -> None:
    lines = shell(spec, "grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status").stdout.decode()
    facts = dict(line.split(":\t") for line in lines.splitlines())
    assert facts.pop("NoNewPrivs") == "1"
    assert facts.pop("Seccomp") == "2"
    # An ordinary user's bounding set counts in its own namespace only, and nothing can raise it.
    if os.geteuid() != 0:
        facts.pop("CapBnd")
    assert set(facts.values()) == {"0" * 16}


def test_set_uid_program_gains_nothing(as_root: None, spec: SandboxSpec, tmp_path: Path) -> None:
    tools = tmp_path / "tools"
    tools.mkdir()
    shutil.copy(shutil.which("id") or "/usr/bin/id", tools / "id")
    (tools / "id").chmod(0o4755)
    bound = replace(spec, read_only={tools: "/tools"})
    assert (
        shell(bound, "/tools/id -u; /tools/id -ru").stdout.split() == [str(aar_uid(0)).encode()] * 2
    )


def test_internet_is_unreachable_at_once(spec: SandboxSpec) -> None:
    for address in ("8.8.8.8:53", "169.254.169.254:80"):
        done = python(spec, CONNECT, "AF_INET", address)
        assert b"Network is unreachable" in done.stderr
    names = python(spec, "import socket; socket.getaddrinfo('pypi.org', 443)")
    assert b"gaierror" in names.stderr


def test_two_sandboxes_do_not_see_each_other(
    spec: SandboxSpec, outside: Outside, tmp_path: Path
) -> None:
    other = SandboxSpec(outside.other_workspace, limits=spec.limits, uid=aar_uid(1))
    listing = "ls / /tmp /dev/shm /workspace; id -u; hostname"
    shell(other, "touch /tmp/left /dev/shm/left; echo hello > /workspace/mine")
    mine, others = (shell(one, listing).stdout.decode() for one in (spec, other))
    assert "left" not in mine + others
    assert "mine" in others and "mine" not in mine and "notes.txt" not in mine
    if os.geteuid() == 0:
        assert str(aar_uid(0)) in mine and str(aar_uid(1)) in others
