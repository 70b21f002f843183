"""Starting, stopping, and refusing to start."""

import contextlib
import os
import signal
import socket
import stat
import subprocess
import sys

import httpx
import pytest
from platform_kit import TinyTask, platform, start, write_task

from aarlab.core.layout import RunDir
from aarlab.server.__main__ import main


@pytest.fixture(autouse=True)
def _process_state():
    """`main` sets the umask and signal handlers of its process, here that of the tests."""
    mask = os.umask(0o022)
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    os.umask(mask)
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]):
    """Run the command in this process; it must end at once with one line on stderr and code 1."""

    def run_it(task: TinyTask, run: RunDir, *options: str) -> str:
        assert main(["--run", str(run.path), "--root", str(task.data.path), *options]) == 1
        message = capsys.readouterr().err
        assert message.startswith("aarlab server: ") and message.count("\n") == 1
        return message

    return run_it


def test_a_life_of_the_server(tiny: TinyTask, run_dir: RunDir, refused) -> None:
    """Modes of its files, one server to a run, a clean stop on both signals, lasting tokens."""
    running = start(tiny, run_dir)
    operator, aar = running.operator_token, running.token("a")
    assert stat.S_IMODE(run_dir.socket.stat().st_mode) == 0o666
    assert stat.S_IMODE(run_dir.socket.parent.stat().st_mode) == 0o755
    for path in (run_dir.platform, *run_dir.platform.rglob("*")):
        in_repo = path.is_relative_to(run_dir.snapshots)  # git has its own modes, behind 700
        assert in_repo or path.stat().st_mode & 0o077 == 0, path
    assert "another server" in refused(tiny, run_dir)
    assert running.process.poll() is None and run_dir.socket.exists()
    for number in (signal.SIGTERM, signal.SIGINT):
        running.process.send_signal(number)
        assert running.process.wait(20) == 0
        assert not run_dir.socket.exists() and running.log_text() == ""
        if number == signal.SIGTERM:
            running = start(tiny, run_dir)
            assert running.operator_token == operator and running.token("a") == aar


def test_a_socket_in_use_by_something_else_is_left_alone(
    tiny: TinyTask, run_dir: RunDir, refused
) -> None:
    run_dir.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(run_dir.socket))
        other.listen()
        assert "in use" in refused(tiny, run_dir)
        assert run_dir.socket.exists()


def test_tcp_works_and_a_port_in_use_is_refused(tiny: TinyTask, run_dir: RunDir, refused) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert f"127.0.0.1:{port}" in refused(tiny, run_dir, "--port", str(port))
    assert not run_dir.socket.exists()
    with platform(tiny, run_dir, "--port", str(port)):
        assert httpx.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}


def test_a_loose_vault_stops_the_server(tmp_path, run_dir: RunDir, refused) -> None:
    task = write_task(tmp_path / "data", n=40)
    (task.data.vault / "tiny/truth/search.jsonl").chmod(0o644)
    assert "chmod" in refused(task, run_dir)
    assert not run_dir.platform.exists()


def test_an_unknown_task_and_an_overlong_socket_path(tiny: TinyTask, tmp_path, refused) -> None:
    assert "no-such" in refused(tiny, RunDir(tmp_path / "a"), "--task", "no-such")
    long = RunDir(tmp_path / ("x" * 100))
    assert "107 bytes" in refused(tiny, long)


@pytest.mark.parametrize(
    ("modules", "allowed"),
    [
        ("aarlab.server.serve, aarlab.store.log, aarlab.vault.scorer", ["fastapi", "sqlalchemy"]),
        ("aarlab.client.platform, aarlab.client.operator", []),
    ],
)
def test_nothing_heavy_is_imported(modules: str, allowed: list[str]) -> None:
    code = (
        f"import sys, {modules}; "
        "heavy = {'torch', 'transformers', 'ray', 'sklearn', 'fastapi', 'sqlalchemy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.strip() == str(allowed)


STOPPED_EARLY = """
import os, signal, sys
from pathlib import Path
from aarlab.server import serve
from aarlab.server.settings import ServerSettings

run, root, moment = sys.argv[1:]
end = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
if moment == "while it opens its database":
    opened = serve.open_store
    serve.open_store = lambda settings: (end(), opened(settings))[1]
serve.serve(
    ServerSettings(run=Path(run), data=Path(root), tasks=[]),
    end if moment == "when it listens" else lambda: None,
)
"""


@pytest.mark.parametrize("moment", ["while it opens its database", "when it listens"])
def test_a_signal_before_it_serves_ends_it_too(
    tiny: TinyTask, run_dir: RunDir, moment: str
) -> None:
    words = [sys.executable, "-c", STOPPED_EARLY, str(run_dir.path), str(tiny.data.path), moment]
    done = subprocess.run(words, timeout=30, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-500:]
    assert not run_dir.socket.exists()
