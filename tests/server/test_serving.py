"""Starting, stopping, and refusing to start."""

import contextlib
import signal
import socket
import stat
import subprocess
import sys

import httpx
import pytest
from platform_kit import TinyTask, platform, spawn, start, stop, write_task

from aarlab.core.layout import RunDir


def _refused(task: TinyTask, run: RunDir, *options: str) -> str:
    process = spawn(task, run, *options)
    assert process.wait(30) == 1
    message = (run.path / "server.log").read_text()
    assert message.startswith("aarlab server: ") and "Traceback" not in message
    return message


def test_files_are_closed_and_the_socket_is_open(tiny: TinyTask, run_dir: RunDir) -> None:
    with platform(tiny, run_dir) as running:
        mode = stat.S_IMODE(run_dir.socket.stat().st_mode)
        assert mode == 0o666 and stat.S_IMODE(run_dir.socket.parent.stat().st_mode) == 0o755
        assert stat.S_IMODE(run_dir.platform.stat().st_mode) == 0o700
        running.token("a")
        for path in run_dir.platform.rglob("*"):
            assert path.stat().st_mode & 0o077 == 0 or path.is_relative_to(run_dir.snapshots)
        assert stat.S_IMODE((run_dir.tokens / "operator").stat().st_mode) == 0o600


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_it_cleanly(tiny: TinyTask, run_dir: RunDir, number: int) -> None:
    running = start(tiny, run_dir)
    running.process.send_signal(number)
    assert running.process.wait(20) == 0
    assert not run_dir.socket.exists() and running.log_text() == ""


def test_a_stale_socket_is_replaced(tiny: TinyTask, run_dir: RunDir) -> None:
    running = start(tiny, run_dir)
    running.process.kill()
    running.process.wait()
    assert run_dir.socket.exists()
    with platform(tiny, run_dir):
        pass


def test_a_second_server_on_the_run_is_refused(tiny: TinyTask, run_dir: RunDir) -> None:
    with platform(tiny, run_dir) as running:
        assert "another server" in _refused(tiny, run_dir)
        with running.operator() as operator:
            assert operator.head().seq == 0


def test_a_socket_in_use_by_something_else_is_left_alone(tiny: TinyTask, run_dir: RunDir) -> None:
    run_dir.socket.parent.mkdir(parents=True)
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(run_dir.socket))
        other.listen()
        assert "in use" in _refused(tiny, run_dir)
        assert run_dir.socket.exists()


def test_tcp_works_and_a_port_in_use_is_refused(tiny: TinyTask, run_dir: RunDir) -> None:
    with contextlib.closing(socket.socket()) as other:
        other.bind(("127.0.0.1", 0))
        port = other.getsockname()[1]
        other.listen()
        assert f"127.0.0.1:{port}" in _refused(tiny, run_dir, "--port", str(port))
    assert not run_dir.socket.exists()
    with platform(tiny, run_dir, "--port", str(port)):
        assert httpx.get(f"http://127.0.0.1:{port}/health").json() == {"status": "ok"}


def test_a_loose_vault_stops_the_server(tmp_path, run_dir: RunDir) -> None:
    task = write_task(tmp_path / "data", n=40)
    (task.data.vault / "tiny/truth/search.jsonl").chmod(0o644)
    assert "chmod" in _refused(task, run_dir)
    assert not run_dir.platform.exists()


def test_an_unknown_task_and_an_overlong_socket_path(tiny: TinyTask, tmp_path) -> None:
    assert "no-such" in _refused(tiny, RunDir(tmp_path / "a"), "--task", "no-such")
    long = RunDir(tmp_path / ("x" * 100))
    assert "107 bytes" in _refused(tiny, long)


def test_the_tokens_outlive_a_restart(tiny: TinyTask, run_dir: RunDir) -> None:
    running = start(tiny, run_dir)
    operator, aar = running.operator_token, running.token("a")
    assert stop(running.process) == 0
    with platform(tiny, run_dir) as again:
        assert again.operator_token == operator and again.token("a") == aar


@pytest.mark.parametrize(
    "module", ["server.app", "server.serve", "store.log", "vault.scorer", "client.platform"]
)
def test_nothing_heavy_is_imported(module: str) -> None:
    code = (
        f"import sys, aarlab.{module}; "
        "heavy = {'torch', 'transformers', 'ray', 'sklearn', 'fastapi', 'sqlalchemy'}; "
        "print(sorted(heavy & set(sys.modules)))"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    allowed = "['fastapi', 'sqlalchemy']" if module.startswith("server") else "[]"
    allowed = "['sqlalchemy']" if module.startswith("store") else allowed
    assert shown.stdout.strip() == allowed
