"""A campaign whose AARs reach the platform over TCP, with TLS from the first request on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
from toy_campaign import toy_spec

from aarlab.agents.state import load_state
from aarlab.campaign.aars import AarSpec
from aarlab.campaign.runner import create, run_campaign
from aarlab.core.layout import DataRoot, RunDir
from aarlab.core.wire import Limits
from aarlab.executors import known
from aarlab.executors.base import Job
from aarlab.executors.local import LocalExecutor, LocalHandle
from aarlab.store.log import verify_log

pytestmark = pytest.mark.gate


class Elsewhere(LocalExecutor):
    """As on another machine: the AARs have no use of the unix socket."""

    @property
    def platform_host(self) -> str:
        return "127.0.0.1"

    def start(self, job: Job) -> LocalHandle:
        config = Path(job.argv[-1])
        said = json.loads(config.read_text(encoding="utf-8"))
        config.write_text(json.dumps({**said, "socket": "/nowhere/platform.sock"}))
        return super().start(job)


def test_aars_work_over_tls(
    toy_root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    some = {"local": LocalExecutor, "elsewhere": Elsewhere}
    monkeypatch.setattr(known, "EXECUTORS", replace(known.EXECUTORS, built_in=some))
    spec = toy_spec()
    language = AarSpec.model_validate(
        {
            "name": "ada",
            "researcher": "language",
            "direction": "elicitation",
            "language": {
                "model": "scripted/simplifier",
                "model_args": {"rounds": 1, "seeds": 1, "think_s": 0.1, "spoils": False},
            },
        }
    )
    changed = {
        "executor": spec.executor.model_copy(update={"name": "elsewhere"}),
        "aars": [spec.aars[0], language],
        "limits": Limits(submissions=2),
        "verify": spec.verify.model_copy(update={"top": 0, "ablate_top": 0, "certify": False}),
    }
    spec = spec.model_copy(update=changed)
    run = RunDir(tmp_path / "run")
    create(run, spec, {"why": "test"})
    export = run_campaign(run, toy_root, lambda kind, facts: None)
    for name in ("rowan", "ada"):
        config = json.loads((run.aar(name) / "aar.json").read_text())
        assert config["url"].startswith("https://127.0.0.1:")
        assert config["ca"] == str(run.tls / "ca.pem")
        assert load_state(run.aar(name) / "state.json").finished
        assert [s for s in export.submissions if s.aar == name]
        assert (run.aar(name) / "life").read_text() == "1\n"
    verify_log(run.database)
