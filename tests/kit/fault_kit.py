"""A language-model AAR whose model is a vendor's own client against a fake endpoint."""

import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fake_models import Counts, FakeModels
from language_kit import Bench
from platform_kit import wait_for

from aarlab.agents.config import AarConfig
from aarlab.agents.language.calling import INTERRUPTED
from aarlab.agents.prices import Price
from aarlab.agents.specs import LanguageSpec
from aarlab.core.ledger import TOKEN_KINDS
from aarlab.core.transcript import read_transcript
from aarlab.core.wire import AarRecord, CampaignExport

VENDORS = {
    "anthropic": "anthropic/claude-x",
    "openai chat": "openai/gpt-x",
    "openai responses": "openai/gpt-5-x",
}


def spec_of(fake: FakeModels, vendor: str = "anthropic", **more: Any) -> LanguageSpec:
    url = fake.anthropic_url if vendor == "anthropic" else fake.openai_url
    args = {} if vendor == "anthropic" else {"responses_api": vendor == "openai responses"}
    return LanguageSpec(model=VENDORS[vendor], base_url=url, model_args=args, **more)


def config_of(desk: Bench, spec: LanguageSpec, name: str, **limits: Any) -> AarConfig:
    """Priced, so that dollars are on the books too."""
    price = Price(
        model=spec.model, dated="test", input=3.0, output=15.0, cache_read=0.3, cache_write=3.75
    )
    config = desk.config(spec, name, **limits)
    config = config.model_copy(update={"prices": {spec.model: price}})
    (config.home / "aar.json").write_text(config.model_dump_json())
    return config


def keys_of(fake: FakeModels) -> dict[str, str]:
    return {"ANTHROPIC_API_KEY": fake.key, "OPENAI_API_KEY": fake.key}


@dataclass
class Supervisor:
    """The AAR's process, as a campaign starts it."""

    config: AarConfig
    fake: FakeModels
    process: subprocess.Popen[bytes] | None = None

    @property
    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        with (self.config.home / "aar.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "aarlab.agents", str(self.config.home / "aar.json")],
                env={**os.environ, **keys_of(self.fake)},
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def end(self, timeout_s: float = 120) -> None:
        assert self.process is not None
        assert self.process.wait(timeout_s) == 0, self.log()[-3000:]

    def log(self) -> str:
        return (self.config.home / "aar.log").read_text()


def phase_of(home: Path) -> str:
    """Where in its life the AAR is, from its files, whether it lives or not."""
    try:
        state = json.loads((home / "loop.json").read_text())
    except (FileNotFoundError, ValueError):
        return "start"
    if state["phase"] in ("asking", "summing_up"):
        if (home / "answers" / f"{state['call']}.json").exists():
            return "save"
        return "compaction" if state["phase"] == "summing_up" else "model"
    if state["phase"] == "tools":
        last = next(m for m in reversed(state["messages"]) if m["role"] == "assistant")
        tool = last["tool_calls"][-1]["function"]
        return "submission" if tool.startswith(("submit", "put", "post")) else "tool"
    return "save"


PHASES = ("model", "tool", "submission", "save", "compaction")


@dataclass
class Killer:
    """Kills a supervisor at random moments, most of them aimed at a phase."""

    aar: Supervisor
    rng: random.Random
    killed: Counter[str] = field(default_factory=Counter)

    def once(self) -> None:
        """Start it, wait until it works, wait for a phase to come, kill."""
        before = self._calls()
        self.aar.start()
        wait_for(lambda: self._calls() > before or not self.aar.alive, 60)
        assert self.aar.alive, self.aar.log()[-3000:]
        wanted = self.rng.choice((*PHASES, "any"))
        end = time.monotonic() + self.rng.uniform(0.0, 6.0)
        while time.monotonic() < end and phase_of(self.aar.config.home) != wanted:
            time.sleep(0.002)
        time.sleep(self.rng.choice((0.0, self.rng.uniform(0, 0.02), self.rng.uniform(0, 0.3))))
        assert self.aar.alive, self.aar.log()[-3000:]
        self.aar.kill()
        self.killed[phase_of(self.aar.config.home)] += 1

    def _calls(self) -> int:
        path = self.aar.config.home / "loop.json"
        return int(json.loads(path.read_text())["calls"]) if path.exists() else 0


def books(desk: Bench, name: str) -> tuple[CampaignExport, AarRecord]:
    with desk.running.operator() as operator:
        export = operator.export()
    [aar] = [one for one in export.aars if one.name == name]
    return export, aar


def booked_tokens(aar: AarRecord) -> dict[str, int]:
    return {kind: int(aar.spend.get(kind, 0)) for kind in TOKEN_KINDS}


def heard_tokens(counts: Counts) -> dict[str, int]:
    return {kind: counts.distinct_tokens.get(kind, 0) for kind in TOKEN_KINDS}


def check_books(desk: Bench, aar: Supervisor, moved: bool = False) -> None:
    """Nothing is lost or doubled: ledger, transcript, submissions, findings, commands.

    An AAR that was `moved` is told so, and may ask what it had asked in other words.
    """
    name = aar.config.name
    export, record = books(desk, name)
    booked, heard = booked_tokens(record), heard_tokens(aar.fake.counts())
    assert all(booked[kind] <= heard[kind] for kind in heard)
    assert moved or booked == heard, "right to the token"
    entries = list(read_transcript(aar.config.home / "transcript.jsonl"))
    assert [entry.seq for entry in entries] == list(range(1, len(entries) + 1))
    assert sum(e.dollars or 0 for e in entries) == pytest.approx(record.spend["dollars"], rel=1e-9)
    for made in (
        [s.method for s in export.submissions if s.aar == name],
        [s.name for s in export.snapshots if s.aar == name],
        [f.title for f in export.findings if f.author == name],
    ):
        assert made and len(made) == len(set(made)), Counter(made).most_common(3)
    told = [e for e in entries if e.kind == "tool_result"]
    assert len({e.call for e in told}) == len(told), "each call has one result"
    ran = (aar.config.workspace / "log.txt").read_text().split()
    assert len(ran) == len(set(ran)), "no command ran twice"
    asked = [json.loads(e.text) for e in entries if e.kind == "tool_call" and e.tool == "bash"]
    cut = [e for e in told if e.text == INTERRUPTED or "[killed after" in e.text]  # by a stop
    assert len(asked) <= len(ran) + len(cut)
