"""`kill -9` of a language-model AAR at random moments: it ends as if nothing had happened."""

import json
import random
from collections import Counter
from pathlib import Path

import pytest
from fake_models import FakeModels, Fault
from fault_kit import Killer, Supervisor, booked_tokens, books, config_of, heard_tokens, spec_of
from fault_scripts import ROUND, worker
from language_kit import Bench
from platform_kit import wait_for

from aarlab.agents.language.calling import INTERRUPTED
from aarlab.core.transcript import read_transcript
from aarlab.core.wire_ledger import NewControl

pytestmark = pytest.mark.gate

# Every answer takes a moment, so that kills can fall into the call.
SLOW = Fault("slow", every=1, wait_s=0.1)
# One call in flight can be lost with each kill, none else.
IN_FLIGHT = ("model", "compaction")


def _check(desk: Bench, aar: Supervisor, killed: Counter[str]) -> None:
    name, counts = aar.config.name, aar.fake.counts()
    repeated = sum(n - 1 for n in counts.paid.values())
    assert repeated <= sum(killed[phase] for phase in IN_FLIGHT), (killed, counts.repeated)
    export, record = books(desk, name)
    assert booked_tokens(record) == heard_tokens(counts), "right to the token"
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
    assert len(asked) <= len(ran) + sum(e.text == INTERRUPTED for e in told)
    assert counts.leaks == [] and counts.wrong_key == 0


def _killed(desk: Bench, name: str, kills: int, seed: int) -> Counter[str]:
    with FakeModels(worker, [SLOW]) as fake:
        spec = spec_of(fake, context_tokens=6_000, max_output_tokens=500)
        aar = Supervisor(config_of(desk, spec, name), fake)
        killer = Killer(aar, random.Random(seed))
        for _ in range(kills):
            killer.once()
        aar.start()
        done = fake.counts().n_paid
        # Two rounds of the script without a kill: each kind of write happens at least once.
        wait_for(lambda: fake.counts().n_paid > done + 2 * ROUND + 4, 120)
        with desk.running.operator() as operator:
            operator.control(name, NewControl(action="stop", by="t"), key=f"stop-{name}")
        aar.end()
        _check(desk, aar, killer.killed)
    return killer.killed


def test_ten_kills(desk: Bench) -> None:
    killed = _killed(desk, "ten", kills=10, seed=1)
    assert sum(killed.values()) == 10


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_hundred_kills(desk: Bench, tmp_path: Path) -> None:
    killed = _killed(desk, "hundred", kills=100, seed=7)
    assert sum(killed.values()) == 100
    assert len(killed) >= 5, killed
    print(dict(killed))
