"""An agent that has MCP and nothing else reaches a verified method in a real campaign."""

import asyncio
from pathlib import Path

import numpy as np
import pytest
import yaml
from mcp_clients import connected
from mcp_researcher import research
from platform_kit import wait_for
from toy_campaign import command, finished, toy_spec

from aarlab.agents.proxy.forward import forwarding
from aarlab.core.layout import DataRoot, RunDir
from aarlab.report.load import load_export
from aarlab.store.log import verify_log
from aarlab.testbed.settings import load_settings
from aarlab.testbed.tasks.task import open_public

GUEST = {"name": "guest", "researcher": "external", "arm": "guest", "direction": "combining"}


def campaign_of(root: DataRoot, folder: Path, task: str) -> tuple[RunDir, object]:
    changes = {
        "tasks": [task],
        "aars": [GUEST],
        "limits": {"submissions": 3, "methods": 1, "hours": 1.0, "device_s": 2_000},
        "verify": {"top": 0, "ablate_top": 0, "seeds": 2},
    }
    raw = {**toy_spec().model_dump(mode="json"), **changes}
    path, run = folder / "spec.yaml", RunDir(folder / "run")
    path.write_text(yaml.safe_dump(raw))
    return run, command(root, "campaign", "run", str(path), "--out", str(run.path))


async def alone(url: str, headers: dict[str, str]) -> dict:
    async with connected(url, headers) as client:
        return await research(client)


def researched(root: DataRoot, folder: Path, task: str) -> tuple[RunDir, dict]:
    """The whole campaign, ended by the operator once the guest has its verified method."""
    run, process = campaign_of(root, folder, task)
    try:
        wait_for(lambda: (run.tokens / "guest").exists() and run.socket.exists(), 90)
        headers = {"Authorization": f"Bearer {(run.tokens / 'guest').read_text().strip()}"}
        with forwarding(0, str(run.socket)) as port:
            seen = asyncio.run(alone(f"http://127.0.0.1:{port}/mcp", headers))
        code, out = finished(command(root, "aar", "stop", str(run.path), "guest"), 90)
        assert code == 0, out
        code, out = finished(process)
        assert code == 0, out
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
            process.stdout.close()
    return run, seen


def check_what_it_saw(root: DataRoot, run: RunDir, task: str, seen: dict) -> None:
    """Held against the files that it never had."""
    public = open_public(root.public_task(task))
    given = [(row["id"], row["group"], row["prompt"], row["answers"]) for row in seen["rows"]]
    assert given == [
        (e.id, e.group, e.prompt, list(e.answers)) for e in (*public.train, *public.search)
    ]
    last = public.weak_labels.of_seed(public.weak_labels.seeds[-1])
    np.testing.assert_allclose(seen["labels"], last, atol=1e-6)
    hidden = root.vault_task(task) / "inputs" / "selection.jsonl"
    assert not {row["id"] for row in seen["rows"]} & {
        line.split('"')[3] for line in hidden.read_text().split("\n") if '"id"' in line
    }
    assert {"path": "method.py", "text": seen["files"][0]["text"]}.items() <= seen["code"][
        0
    ].items()
    trial, request = seen["trial"], seen["request"]
    assert trial["error"] == "" and trial["n_rows"] == len(public.search)
    assert len(trial["seeds"]) == 2 and trial["ids"] == [] == trial["runs"]
    assert request["state"] == "verified", request
    assert "scores" not in request and seen["finding"]["score"] == trial["score"]
    (line,) = seen["board"]
    assert (line["aar"], line["snapshot"], line["state"]) == (
        "guest", seen["snapshot"]["id"], "verified"
    )  # fmt: skip
    assert [one["method"] for one in seen["submissions"]] == ["words", "sure rows"]
    budget = seen["budget"]
    assert (budget["submissions_left"], budget["methods_left"]) == (1, 0)
    spent = seen["check"]["seconds"] + trial["seconds"]
    assert budget["spend"]["device_s"] == pytest.approx(spent)
    export = load_export(run.export)
    assert {(v.state, v.isolation) for v in export.verifications} == {("done", "bubblewrap")}
    ranked = [line for line in export.leaderboard if line.rank]
    assert [v.split for v in export.verifications] == [
        "selection",
        *(["certify"] if ranked else []),
    ]
    assert [s.snapshot for s in export.submissions] == [None, seen["snapshot"]["id"]]
    verify_log(run.database)
    assert list(run.verifier.glob("trial_*")) == [], "no workspace is left"


@pytest.mark.gate
def test_a_client_with_mcp_alone_reaches_a_verified_method(toy_root, tmp_path: Path) -> None:
    run, seen = researched(toy_root, tmp_path, "gauss")
    check_what_it_saw(toy_root, run, "gauss", seen)


@pytest.mark.slow
@pytest.mark.model
@pytest.mark.timeout(1200)
def test_on_the_embedded_task_too(tmp_path: Path) -> None:
    """The same client, real texts and the real pair: thousands of rows come page by page."""
    root = load_settings().root
    task = next((t for t in ("math", "math-states") if root.public_task(t).is_dir()), None)
    if task is None:
        pytest.skip("no embedded task is built: aarlab task build math")
    run, seen = researched(root, tmp_path, task)
    check_what_it_saw(root, run, task, seen)
