"""`kill -9` of a language-model AAR at random moments: it ends as if nothing had happened."""

import random
from collections import Counter
from pathlib import Path

import pytest
from fake_models import FakeModels, Fault
from fault_kit import Killer, Supervisor, check_books, config_of, spec_of
from fault_scripts import ROUND, worker
from language_kit import Bench
from platform_kit import wait_for

from aarlab.core.wire_ledger import NewControl

pytestmark = pytest.mark.gate

# Every answer takes a moment, so that kills can fall into the call.
SLOW = Fault("slow", every=1, wait_s=0.1)
# One call in flight can be lost with each kill, none else.
IN_FLIGHT = ("model", "compaction")


def _check(desk: Bench, aar: Supervisor, killed: Counter[str]) -> None:
    counts = aar.fake.counts()
    repeated = sum(n - 1 for n in counts.paid.values())
    assert repeated <= sum(killed[phase] for phase in IN_FLIGHT), (killed, counts.repeated)
    check_books(desk, aar)
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
