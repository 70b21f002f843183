"""SIGUSR1 says that an engine will end the process soon: a language AAR ends after its step."""

import signal

import pytest
from fake_models import FakeModels, Fault
from fault_kit import Supervisor, check_books, config_of, phase_of, spec_of
from fault_scripts import short_worker
from language_kit import Bench
from platform_kit import wait_for

from aarlab.executors.base import LEFT


@pytest.mark.gate
def test_a_call_under_way_is_not_paid_twice(desk: Bench) -> None:
    with FakeModels(short_worker, [Fault("slow", every=1, wait_s=1.5)]) as fake:
        config = config_of(desk, spec_of(fake), "noticed")
        aar = Supervisor(config, fake)
        for _ in range(2):
            seen = fake.counts().requests
            aar.start()
            wait_for(lambda before=seen: fake.counts().requests > before, 60)
            assert phase_of(config.home) == "model"
            assert aar.process is not None
            aar.process.send_signal(signal.SIGUSR1)
            assert aar.process.wait(60) == LEFT, aar.log()[-3000:]
            assert "all is saved" in aar.log().splitlines()[-1]
        fake.replan([])
        aar.start()
        aar.end()
        counts = fake.counts()
        assert counts.repeated == {} and counts.requests == counts.n_paid
        check_books(desk, aar)
