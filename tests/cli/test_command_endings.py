"""Signals end everything that a command started; what it says then is true; any locale will do."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from commands import aarlab
from eyes import free_port
from platform_kit import wait_for
from toy_campaign import toy_spec

from aarlab.agents.state import AarState, load_state, save_state
from aarlab.campaign.runner import create
from aarlab.cli import ending, testbed
from aarlab.client.transport import Address, health
from aarlab.core.errors import AarlabError
from aarlab.core.layout import DataRoot, RunDir
from aarlab.testbed.running import panel

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
LATIN_1 = {"PYTHONIOENCODING": "latin-1"}


@pytest.fixture
def run(toy_root: DataRoot, tmp_path: Path) -> RunDir:
    made = RunDir(tmp_path / "runs" / "toy")
    create(made, toy_spec(), {"why": "test"})
    return made


@pytest.fixture
def started(toy_root: DataRoot) -> Iterator[list[subprocess.Popen[str]]]:
    """Whatever a test leaves running is ended with its children."""
    processes: list[subprocess.Popen[str]] = []
    yield processes
    for process in processes:
        process.kill()
        process.communicate()


def serve(toy_root: DataRoot, *words: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "aarlab.cli", "serve", *words],
        env={**os.environ, "AARLAB_HOME": str(toy_root.path), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        start_new_session=True,
        # A shell's background job ignores Ctrl-C and hands that on to what it starts.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def said_at_start(process: subprocess.Popen[str], lines: int = 3) -> str:
    assert process.stdout is not None
    return "".join(process.stdout.readline() for _ in range(lines))


def is_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def end(process: subprocess.Popen[str], number: signal.Signals) -> tuple[int, str]:
    """Send the signal; exit code and last words. No child may be left."""
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(number)
    last, _ = process.communicate(timeout=60)
    _, alive = psutil.wait_procs(children, timeout=10)
    assert alive == []
    return process.returncode, last


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.gate)]
)
def test_serve_says_where_and_how_to_sign_in_and_ends_with_its_process(
    number: signal.Signals, toy_root: DataRoot, run: RunDir, started: list[subprocess.Popen[str]]
) -> None:
    port = free_port()
    process = serve(toy_root, str(run.path), "--port", str(port))
    started.append(process)
    said = said_at_start(process)
    assert f"http://127.0.0.1:{port}/" in said and str(run.tokens / "operator") in said
    assert is_open(port) and run.socket.exists()
    code, last = end(process, number)
    assert code == 0 and "Traceback" not in last
    assert not is_open(port) and not run.socket.exists()


def test_serve_speaks_tls_with_a_certificate_of_the_campaign(
    toy_root: DataRoot, run: RunDir, started: list[subprocess.Popen[str]]
) -> None:
    port = free_port()
    process = serve(toy_root, str(run.path), "--port", str(port), "--tls")
    started.append(process)
    said, ca = said_at_start(process, 4), run.tls / "ca.pem"
    assert f"https://127.0.0.1:{port}/" in said and str(ca) in said
    health(Address(f"https://127.0.0.1:{port}", ca), deadline_s=10)
    health(Address(run.socket), deadline_s=10)
    code, last = end(process, signal.SIGTERM)
    assert code == 0 and "Traceback" not in last
    assert not is_open(port) and not run.socket.exists()


@pytest.mark.parametrize("there", [True, False])
def test_serve_says_when_the_folder_of_campaigns_is_new(
    there: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aarlab.server.lobby.app.serve_lobby", lambda *_: None)
    folder = tmp_path / ("" if there else "rums")
    code, said = aarlab(capsys, "serve", "--runs", str(folder))
    assert code == 0 and ("does not exist yet" in said) != there


def test_a_taken_port_is_an_error(
    toy_root: DataRoot,
    run: RunDir,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AARLAB_HOME", str(toy_root.path))
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    monkeypatch.setattr("aarlab.server.serve.Stop.heed_signals", lambda self: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        code, said = aarlab(capsys, "serve", str(run.path), "--port", str(taken.getsockname()[1]))
    assert code == 2 and "take another port" in said and "http://" not in said


@pytest.mark.gate
def test_the_dashboard_of_all_ends_with_the_servers_that_it_started(
    toy_root: DataRoot, run: RunDir, started: list[subprocess.Popen[str]]
) -> None:
    port, runs = free_port(), run.path.parent
    process = serve(toy_root, "--runs", str(runs), "--port", str(port))
    started.append(process)
    assert str(runs / ".lobby" / "operator") in said_at_start(process)
    wait_for(lambda: is_open(port), 30)
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60, trust_env=False) as client:
        token = (runs / ".lobby" / "operator").read_text(encoding="utf-8").strip()
        assert client.post("/login", data={"token": token, "name": "Ada"}).status_code == 303
        client.get("/c/toy/")
    assert psutil.Process(process.pid).children()
    code, last = end(process, signal.SIGTERM)
    assert code == 143 and "Stopped by SIGTERM" in last and "Traceback" not in last


def test_an_interrupted_testbed_run_promises_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, toy_root: DataRoot
) -> None:
    def cut_off(*_: object) -> object:
        raise KeyboardInterrupt

    monkeypatch.setenv("AARLAB_HOME", str(toy_root.path))
    monkeypatch.setattr(testbed, "_search_bench", lambda *_: panel.Bench(*[None] * 6))  # type: ignore[arg-type]
    monkeypatch.setattr(panel, "run_panel", cut_off)
    code, said = aarlab(capsys, "testbed", "run", "--task", "gauss")
    assert code == 130
    assert said == "Interrupted. No score was kept; the same command starts all methods again. "


def test_a_signal_that_the_parent_ignores_stays_ignored() -> None:
    before = {n: signal.getsignal(n) for n in (signal.SIGTERM, signal.SIGHUP)}
    try:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        ending.end_on_signals()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        with pytest.raises(ending.Terminated) as caught:
            os.kill(os.getpid(), signal.SIGTERM)
            signal.pause()
        assert caught.value.code == 143
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN  # clean-up is not cut short
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@pytest.mark.parametrize("variables", [ASCII, LATIN_1], ids=["ASCII", "Latin-1"])
@pytest.mark.parametrize(
    "words", [("method", "list"), ("campaign", "list", "gr\u00fcn \u2212 \u6771"), ("task", "list")]
)
def test_output_in_any_encoding(
    variables: dict[str, str], words: tuple[str, ...], tmp_path: Path
) -> None:
    (tmp_path / "gr\u00fcn \u2212 \u6771").mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "aarlab.cli", *words],
        env={**os.environ, "AARLAB_HOME": str(tmp_path / "h\u00e4user"), **variables},
        cwd=tmp_path,
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")


def test_an_intact_state_is_read_under_ascii(tmp_path: Path) -> None:
    path = tmp_path / "state.json"
    save_state(path, AarState(finished=True, why="gr\u00fcn \u2212 ended"))
    script = (
        "import locale, sys; from pathlib import Path\n"
        "from aarlab.agents.state import load_state\n"
        "assert 'utf' not in locale.getpreferredencoding(False).lower()\n"
        "print(ascii(load_state(Path(sys.argv[1])).why))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(path)],
        env={**os.environ, **ASCII},
        capture_output=True,
        check=False,
    )
    assert done.stdout.decode().strip() == ascii(load_state(path).why), done.stderr.decode()
    assert not issubclass(UnicodeDecodeError, AarlabError)
