"""Claude Code itself in the sandbox, on a fake model that drives its tools, as one AAR process."""

import json
import os
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_models import KEY, Call, Conversation, FakeModels, Reply
from platform_kit import Running, platform, wait_for, write_task

from aarlab.agents.config import AarConfig
from aarlab.agents.prices import Price
from aarlab.agents.specs import ExternalSpec
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.registration import research_settings, run_settings
from aarlab.campaign.runner import create, run_campaign
from aarlab.campaign.spec import CampaignSpec, VerifySpec
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.transcript import read_transcript
from aarlab.core.wire_ledger import NewControl
from aarlab.sandbox.workspace import aar_uid, prepare_workspace

pytest.importorskip("claude_agent_sdk")
MODEL = "anthropic/claude-x"
PRICES = {MODEL: Price(model=MODEL, dated="test", input=3.0, output=15.0)}
SUBMIT = textwrap.dedent("""
    import json, pathlib
    from aarlab.client.platform import PlatformClient
    from aarlab.client.transport import Address
    from aarlab.core.wire import Run, Submission
    setup = json.loads(pathlib.Path(".aarlab/setup.json").read_text())
    server = setup["mcpServers"]["aarlab"]
    assert "headers" not in server, "no token is in the sandbox"
    rows = pathlib.Path("/public/inputs/search.jsonl").read_text().splitlines()
    ids = [json.loads(row)["id"] for row in rows]
    with PlatformClient(Address(server["url"].removesuffix("/mcp")), "") as platform:
        runs = [Run(seed=0, probs=[0.6] * len(ids))]
        score = platform.submit(Submission(task="tiny", method="m", ids=ids, runs=runs))
    print("SCORED", score.submissions_left)
""")
LOOK = "env; id; ls /run /notes /public; cat /proc/1/environ; echo SEEN-$((6*7))"


def steps(said: Conversation) -> Reply:
    """A round: look around, ask the platform over MCP, submit from the shell, post, finish."""
    if "Bash" not in said.tools:
        return Reply("a title")
    done = said.answered
    moves = [
        Call("Bash", {"command": LOOK, "description": "look"}),
        Call("mcp__aarlab__my_budget", {}),
        Call("Bash", {"command": f"python - <<'EOF'\n{SUBMIT}\nEOF", "description": "submit"}),
        Call(
            "mcp__aarlab__post_finding",
            {"post": {"kind": "insight", "title": "from Claude Code", "text": "it works"}},
        ),
        Call("Write", {"file_path": "/workspace/finished", "content": "all done"}),
    ]
    if done < len(moves):
        return Reply(f"step {done}", (moves[done],))
    return Reply("That is all.")


def sleeps(said: Conversation) -> Reply:
    """Runs something that never returns."""
    if "Bash" not in said.tools:
        return Reply("a title")
    return Reply("long", (Call("Bash", {"command": "sleep 3000", "timeout": 600_000}),))


def brief(said: Conversation) -> Reply:
    """Says that it is finished at once."""
    done = Call("Write", {"file_path": "/workspace/finished", "content": "nothing to try"})
    return Reply("That is all.") if said.answered else Reply("", (done,))


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    home = tmp_path_factory.mktemp("claude")
    with platform(write_task(home / "data"), RunDir(home / "run")) as made:
        yield made


def prepared(running: Running, name: str, **limits: Any) -> AarConfig:
    token_file = running.run.tokens / name
    token_file.write_text(running.token(name, **limits) + "\n")
    home = running.run.aar(name)
    uid = aar_uid(sum(map(ord, name)))
    prepare_workspace(home / "workspace", uid)
    made = AarConfig(
        name=name,
        researcher="external",
        direction="elicitation",
        methods=[],
        seed=0,
        tasks={"tiny": running.task.data.public_task("tiny")},
        home=home,
        token_file=token_file,
        socket=running.run.socket,
        models=home / "none",
        n_seeds=1,
        max_trials=1,
        trial_timeout_s=60,
        isolation="bubblewrap",
        uid=uid,
        external=ExternalSpec(agent="claude-code", model=MODEL),
        prices=PRICES,
    )
    (home / "aar.json").write_text(made.model_dump_json())
    return made


def supervisor(config: AarConfig, fake: FakeModels) -> subprocess.Popen[bytes]:
    with (config.home / "aar.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "aarlab.agents", str(config.home / "aar.json")],
            env={
                **os.environ,
                "ANTHROPIC_API_KEY": fake.key,
                "ANTHROPIC_BASE_URL": fake.anthropic_url,
            },
            stdout=log,
            stderr=log,
        )


def test_a_whole_life(running: Running) -> None:
    config = prepared(running, "claude", submissions=2, tokens=10_000_000)
    token = config.token_file.read_text().strip()
    with FakeModels(steps) as fake:
        process = supervisor(config, fake)
        assert process.wait(120) == 0, (config.home / "aar.log").read_text()[-3000:]
        counts = fake.counts()
    with running.operator() as operator:
        export = operator.export()
    [aar] = [a for a in export.aars if a.name == "claude"]
    assert [f.title for f in export.findings if f.author == "claude"] == ["from Claude Code"]
    assert len([s for s in export.submissions if s.aar == "claude"]) == 1
    assert {k: aar.spend.get(k, 0) for k in counts.tokens} == counts.tokens
    assert aar.spend["dollars"] > 0 and aar.spend["device_s"] > 0
    assert counts.wrong_key == 0 and counts.leaks == [] and counts.repeated == {}
    entries = list(read_transcript(config.home / "transcript.jsonl"))
    results = [e.text for e in entries if e.kind == "tool_result"]
    assert any("SEEN-42" in text for text in results)
    assert any("SCORED 1" in text for text in results)
    assert sum(e.dollars or 0 for e in entries) == pytest.approx(aar.spend["dollars"])
    everything = "".join(results)
    assert KEY not in everything and token not in everything
    for file in [*config.workspace.rglob("*"), *config.home.glob("*")]:
        if file.is_file() and not file.is_symlink():
            raw = file.read_bytes()
            assert KEY.encode() not in raw and token.encode() not in raw, file
    why = json.loads(config.state.read_text())["why"]
    assert why == "the agent says that it is finished"


def test_the_token_limit_ends_it(running: Running) -> None:
    config = prepared(running, "capped", tokens=80_000)
    with FakeModels(steps) as fake:
        assert supervisor(config, fake).wait(60) == 0
        counts = fake.counts()
    assert 0 < sum(counts.tokens.values()) <= 80_000
    assert "tokens left and this model call may take" in json.loads(config.state.read_text())["why"]


def test_stop_ends_a_tool_that_never_returns_and_kill_9_is_survived(running: Running) -> None:
    config = prepared(running, "sleeper")
    with FakeModels(sleeps) as fake:
        first = supervisor(config, fake)
        wait_for(lambda: fake.counts().n_paid >= 1, 60)
        first.kill()
        first.wait()
        second = supervisor(config, fake)
        wait_for(lambda: fake.counts().n_paid >= 2, 60)
        with running.operator() as operator:
            operator.control("sleeper", NewControl(action="stop", by="Ada"), key="stop")
        assert second.wait(60) == 0
        counts = fake.counts()
        with running.operator() as operator:
            [aar] = [a for a in operator.export().aars if a.name == "sleeper"]
    assert json.loads(config.state.read_text())["why"] == "the operator stopped it"
    assert {k: aar.spend.get(k, 0) for k in counts.tokens} == counts.tokens


def test_killed_before_it_said_anything_it_begins(running: Running) -> None:
    """The run is counted, and there is no conversation to continue."""
    config = prepared(running, "early")
    (config.home / "external.json").write_text('{"runs": 1}')
    with FakeModels(brief) as fake:
        assert supervisor(config, fake).wait(60) == 0
        counts = fake.counts()
    assert counts.n_paid >= 1 and b'"runs":2' in (config.home / "external.json").read_bytes()


def test_in_a_campaign(toy_root: DataRoot, tmp_path: Path, monkeypatch) -> None:
    """Named in a spec, started and ended by the campaign; a key that only this process has."""
    aar = AarSpec(
        name="grace",
        researcher="external",
        external=ExternalSpec(agent="claude-code", model=MODEL),
    )
    spec = CampaignSpec(
        name="c", tasks=["gauss"], aars=[aar], prices=PRICES, verify=VerifySpec(top=0)
    )
    run = RunDir(tmp_path / "run")
    with FakeModels(brief) as fake:
        monkeypatch.setenv("ANTHROPIC_API_KEY", fake.key)
        monkeypatch.setenv("ANTHROPIC_BASE_URL", fake.anthropic_url)
        create(run, spec, {**run_settings(toy_root), **research_settings(spec)})
        export = run_campaign(run, toy_root, lambda kind, facts: None)
        counts = fake.counts()
    [record] = export.aars
    assert {k: record.spend.get(k, 0) for k in counts.tokens} == counts.tokens
    assert record.isolation == "bubblewrap" and record.spend["dollars"] > 0
    assert b"says that it is finished" in (run.aar("grace") / "state.json").read_bytes()
    for file in run.path.rglob("*"):
        if file.is_file() and not file.is_symlink():
            assert KEY.encode() not in file.read_bytes(), file
