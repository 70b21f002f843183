"""An agent without a network and without a key talks to a model through the bound socket."""

import json
import sys
from pathlib import Path

from fake_models import KEY, Conversation, FakeModels, Reply
from proxy_kit import opened

from aarlab.sandbox.running import run
from aarlab.sandbox.spec import SandboxLimits, SandboxSpec
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

PROGRAM = """
import json, os, pathlib, socket, sys, urllib.error, urllib.request
port, outside, half = sys.argv[1:4]
url = f"http://127.0.0.1:{port}/v1/messages"
asked = {"model": "claude-x", "max_tokens": 20, "messages": [{"role": "user", "content": "go"}]}

def post(body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"x-api-key": "none"})
    try:
        with urllib.request.urlopen(request) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()

found, read = [], 0
for top in ("/proc", "/run", "/etc", "/workspace", "/tmp", "/dev/shm", "/root", "/home", "/var"):
    for folder, _, files in os.walk(top):
        for name in files:
            path = pathlib.Path(folder, name)
            try:
                if path.stat().st_size > 1_000_000:
                    continue
                handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
                content, read = os.read(handle, 1_000_000), read + 1
                os.close(handle)
            except OSError:
                continue
            if half.encode() + b"cdef" in content:
                found.append(str(path))
try:
    socket.create_connection(("127.0.0.1", int(outside)), timeout=2).close()
    reached = True
except OSError:
    reached = False
print(json.dumps({
    "good": post(asked),
    "model": post({**asked, "model": "claude-other"}),
    "reached": reached,
    "found": found,
    "read": read,
    "env": dict(os.environ),
}))
"""


def reply(said: Conversation) -> Reply:
    return Reply("hello from outside")


def test_the_model_answers_and_the_key_is_nowhere(tmp_path: Path) -> None:
    uid = aar_uid(0)
    workspace, home = tmp_path / "workspace", tmp_path / "home"
    home.mkdir()
    prepare_workspace(workspace, uid)
    with FakeModels(reply) as fake, opened(fake, home, uid=uid) as door:
        spec = SandboxSpec(
            workspace=workspace,
            read_only={door.folder: "/run/models"},
            uid=uid,
            limits=SandboxLimits(wall_s=120),
        )
        rule = "8081=/run/models/models.sock"
        program = [sys.executable, "-c", PROGRAM, "8081", str(fake.port), KEY[:-4]]
        argv = [sys.executable, "-m", "aarlab.agents.proxy.forward", rule, "--", *program]
        done = run(spec, argv)
        assert done.ok, done.stderr.decode()[-2000:]
        told = json.loads(done.stdout)
        counts = fake.counts()
    status, text = told["good"]
    assert status == 200 and "hello from outside" in text
    assert told["model"][0] == 403
    assert told["reached"] is False, "only the proxy leads out"
    assert told["found"] == [] and told["read"] > 50
    assert KEY not in done.stdout.decode() + done.stderr.decode()
    assert counts.n_paid == 1 and door.books.tokens() == counts.tokens
