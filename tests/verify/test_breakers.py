"""Methods that write the verifier's input themselves: it goes on, and says what they did."""

import json
import os
import resource
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
from arena import Arena, open_arena
from breakers import BREAKERS, LOOKS_AROUND, SOURCES, STATE_SOURCES
from ordinary_user import run_as_ordinary_user

from aarlab.testbed.methods.named_method import named_files

ALL = {**SOURCES, **STATE_SOURCES, "looks": LOOKS_AROUND}
# One of each kind: what it left is refused, its record is flagged.
FEW = ("rows of its own", "a record without end")


@contextmanager
def settled(folder: Path, sources: Mapping[str, str]) -> Iterator[Arena]:
    with open_arena(folder) as made:
        for number, (name, source) in enumerate(sources.items()):
            made.hand_in(f"breaker{number}", name, source)
        made.hand_in("honest", "vanilla", named_files("vanilla")["method.py"], opened=False)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        made.settle()
        made.grown_mb = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kb) / 1024
        yield made


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with settled(tmp_path_factory.mktemp("breakers"), ALL) as made:
        yield made


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    with settled(tmp_path_factory.mktemp("few"), {name: ALL[name] for name in FEW}) as made:
        yield made


def test_a_few_are_refused_or_flagged_and_an_honest_method_is_verified(few: Arena) -> None:
    found = few.verification("rows of its own")
    assert found.state == "failed" and "predictions were refused" in found.error
    assert few.verification("a record without end").evidence.truncated
    assert few.verification("vanilla").state == "done" and few.suspect("vanilla") == set()


@pytest.mark.gate
def test_the_honest_method_is_verified_all_the_same(arena: Arena) -> None:
    assert arena.verification("vanilla").state == "done"
    assert arena.suspect("vanilla") == set()
    assert all(v.state != "queued" for v in arena.export.verifications)


@pytest.mark.gate
@pytest.mark.parametrize("name", BREAKERS)
def test_what_it_left_is_refused_or_flagged(arena: Arena, name: str) -> None:
    found, said = arena.verification(name), BREAKERS[name][1]
    if "probes" not in name:
        assert found.state == "failed" and said in found.error and found.estimate is None
        return
    assert found.state == "done"
    flagged = [a.summary for a in arena.audits(name).values() if a.severity == "suspect"]
    assert any(said in summary for summary in flagged), flagged


@pytest.mark.gate
@pytest.mark.parametrize("name", ["a record without end", "a record that is no unicode"])
def test_a_record_of_its_own_is_flagged(arena: Arena, name: str) -> None:
    assert arena.verification(name).evidence.truncated
    assert "the record is incomplete" in arena.audits(name)["execution"].summary


@pytest.mark.gate
@pytest.mark.parametrize("name", STATE_SOURCES)
def test_a_state_of_its_workspace_is_a_failed_re_run(arena: Arena, name: str) -> None:
    found = arena.verification(name)
    assert found.state == "failed" and found.error and found.estimate is None


@pytest.mark.gate
def test_nothing_is_left_of_folders_without_end(arena: Arena) -> None:
    assert arena.verification("folders without end").state == "failed"
    assert list(arena.running.run.verifier.glob("ver_*")) == []


@pytest.mark.gate
def test_the_verifier_stays_small(arena: Arena) -> None:
    """The 60 MB of nested lists would take well over a gigabyte."""
    assert arena.grown_mb < 700


@pytest.mark.gate
def test_a_re_run_sees_its_rows_and_neither_network_nor_platform(arena: Arena) -> None:
    found = arena.verification("looks").error.partition("SEEN ")[2].splitlines()[0]
    seen = json.loads(found)
    inputs = ["features.npz", "inputs.jsonl", "job.json", "method", "out", "weak_labels.npz"]
    assert set(seen["workspace"]) - {
        "lower.npz",
        "twins.jsonl",
        "train.jsonl",
        "train-features.npz",
    } == set(inputs)
    assert seen["network"] == "Network is unreachable" and seen["run"] == []
    assert not [name for name in seen["environment"] if "KEY" in name or "AARLAB" in name]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_all_of_this_as_an_ordinary_user() -> None:
    """Root may enter every folder; an ordinary user's verifier is shut out of closed ones."""
    if os.geteuid() != 0:
        pytest.skip("needs root to become another user; the rest of this file ran as one")
    done = run_as_ordinary_user(__file__)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]
    assert " passed" in done.stdout
