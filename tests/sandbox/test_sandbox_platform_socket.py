"""The one way out: the platform's unix socket."""

import socketserver
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest
from sandbox_attempts import python

from aarlab.core.errors import BadInput
from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxSpec

GET = """
import sys, time, httpx
client = httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1], verify=False), base_url="http://platform")
for want in sys.argv[2:]:
    for _ in range(600):
        try:
            text = client.get("/me").text
            if text == want:
                break
        except httpx.TransportError:
            pass
        time.sleep(0.05)
    print(text, flush=True)
"""


@contextmanager
def platform(path: Path, answer: str) -> Iterator[threading.Event]:
    asked = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer.encode())
            asked.set()

        def address_string(self) -> str:
            return "unix"

        def log_message(self, *_: object) -> None:
            return

    class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
        daemon_threads = True

    with Server(str(path), Handler) as server:
        path.chmod(0o666)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield asked
        finally:
            server.shutdown()
            thread.join()
    path.unlink()


@pytest.fixture
def socket_path(tmp_path: Path) -> Path:
    folder = tmp_path / "socket"
    folder.mkdir()
    folder.chmod(0o711)
    return folder / "platform.sock"


def test_platform_answers(either: SandboxSpec, socket_path: Path) -> None:
    spec = replace(either, socket=socket_path)
    with platform(socket_path, "hello"):
        done = python(spec, GET, spec.seen_socket, "hello")
    assert done.stdout == b"hello\n", done.stderr
    if spec.isolated:
        assert str(spec.seen_socket) == "/run/aarlab/platform.sock"


def test_restarted_platform_is_found_by_a_running_program(
    spec: SandboxSpec, socket_path: Path
) -> None:
    spec = replace(spec, socket=socket_path)
    results = []
    with platform(socket_path, "first") as asked:
        command = [sys.executable, "-c", GET, str(spec.seen_socket), "first", "second"]
        thread = threading.Thread(target=lambda: results.append(run(spec, command)))
        thread.start()
        assert asked.wait(50)
    with platform(socket_path, "second"):
        thread.join()
    assert results[0].stdout == b"first\nsecond\n", results


def test_socket_cannot_be_replaced_from_inside(spec: SandboxSpec, socket_path: Path) -> None:
    with platform(socket_path, "hello"):
        code = "import os; os.unlink('/run/aarlab/platform.sock')"
        done = python(replace(spec, socket=socket_path), code)
    assert done.returncode == 1 and b"Error" in done.stderr


def test_folder_with_other_files_is_refused(spec: SandboxSpec, socket_path: Path) -> None:
    (socket_path.parent / "tokens.json").write_text("{}")
    with pytest.raises(BadInput, match=r"tokens\.json would be visible"):
        python(replace(spec, socket=socket_path), "")


def test_closed_folder_is_explained(as_root: None, spec: SandboxSpec, socket_path: Path) -> None:
    socket_path.parent.chmod(0o700)
    with pytest.raises(BadInput, match="chmod 711"):
        python(replace(spec, socket=socket_path), "")
