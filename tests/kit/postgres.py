"""A real PostgreSQL for tests: a cluster of its own in a temporary folder, not run as root."""

import glob
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

OWNER = "nobody"  # where the tests run as root, which PostgreSQL refuses
PASSWORD = "pass-9d41"  # for connections over TCP; those over the socket need none


def find(program: str) -> str | None:
    debian = sorted(glob.glob(f"/usr/lib/postgresql/*/bin/{program}"))
    return debian[-1] if debian else shutil.which(program)


@contextmanager
def database(postgres: bool) -> Iterator[str | None]:
    """Yield the URL of a fresh database, or None for the server's own SQLite."""
    if not postgres:
        yield None
        return
    server = Postgres()
    try:
        server.start()
        yield server.fresh()
    finally:
        server.remove()


class Postgres:
    """Started and stopped at will; `fresh` makes databases, by URL."""

    def __init__(self) -> None:
        if find("postgres") is None or find("initdb") is None:
            pytest.skip("no postgres binary: install the package `postgresql`")
        self.folder = Path(tempfile.mkdtemp(prefix="aarlab-pg-"))
        self.port = _free_port()
        self._process: subprocess.Popen[bytes] | None = None
        if os.getuid() == 0:
            entry = pwd.getpwnam(OWNER)
            os.chown(self.folder, entry.pw_uid, entry.pw_gid)
        auth = ["--auth-local=trust", "--auth-host=scram-sha-256", "--username=aarlab"]
        self._call("initdb", *auth, "--no-sync", "--locale=C.UTF-8", "-D", str(self.folder / "db"))

    def start(self) -> None:
        options = {
            "unix_socket_directories": self.folder,
            "port": self.port,
            "listen_addresses": "127.0.0.1",
            "fsync": "off",
        }
        words = [word for name, value in options.items() for word in ("-c", f"{name}={value}")]
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_as_owner(), find("postgres") or "", "-D", str(self.folder / "db"), *words],
                stdout=log,
                stderr=log,
                cwd=self.folder,
            )
        ready = [find("psql") or "psql", *self._target("postgres"), "-qc", "SELECT 1"]
        end = time.monotonic() + 60
        while subprocess.run(ready, capture_output=True, check=False).returncode != 0:
            assert time.monotonic() < end, (self.folder / "log").read_text()[-2000:]
            time.sleep(0.05)

    def stop(self, number: int = signal.SIGINT) -> None:
        """SIGINT ends all sessions in order; SIGQUIT is a crash, recovered at the next start."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(60)
            self._process = None

    def remove(self) -> None:
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder)

    def fresh(self, template: str = "template0") -> str:
        """A new database, or a copy of one that nobody is connected to; returns its URL."""
        name = f"t{uuid.uuid4().hex[:12]}"
        if "://" in template:
            template = self.name(template)
        self.sql("postgres", f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY file_copy")
        return f"postgresql://aarlab@/{name}?host={self.folder}&port={self.port}"

    def drop(self, url: str) -> None:
        self.sql("postgres", f"DROP DATABASE {self.name(url)} WITH (FORCE)")

    def sql(self, database: str, *statements: str) -> str:
        """Run statements as the superuser; returns what the last printed."""
        words = [word for statement in statements for word in ("-c", statement)]
        done = subprocess.run(
            [find("psql") or "psql", *self._target(database), "-XqAtvON_ERROR_STOP=1", *words],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def over_tcp(self, url: str, password: str = PASSWORD) -> str:
        """The same database, where a password is asked for."""
        self.sql("postgres", f"ALTER ROLE aarlab PASSWORD '{PASSWORD}'")
        return f"postgresql://aarlab:{password}@127.0.0.1:{self.port}/{self.name(url)}"

    @staticmethod
    def name(url: str) -> str:
        return url.rpartition("/" if "?" not in url else "@/")[2].partition("?")[0]

    def _target(self, database: str) -> list[str]:
        return ["-h", str(self.folder), "-p", str(self.port), "-U", "aarlab", "-d", database]

    def _call(self, program: str, *words: str) -> None:
        command = [*_as_owner(), find(program) or program, *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=self.folder, check=False)
        assert done.returncode == 0, done.stderr


def _as_owner() -> list[str]:
    who = ["--reuid", OWNER, "--regid", "nogroup", "--clear-groups"] if os.getuid() == 0 else []
    return ["setpriv", *who, "--pdeathsig", "KILL", "--"]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
