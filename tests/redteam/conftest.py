"""One arena for all tests here: every attack and every honest method, then the verifier."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import attacks
from arena import Arena, open_arena
from language_kit import Bench, bench
from language_world import World, world

from aarlab.core.layout import DataRoot, RunDir


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory):
    with open_arena(tmp_path_factory.mktemp("arena")) as made:
        fill(made, attacks.HONEST)
        yield made


def fill(arena: Arena, honest: list[str]) -> None:
    attacks.honest(arena, honest)
    attacks.methods_that_cheat(arena)
    attacks.flip_rows(arena)
    attacks.random_vectors(arena)
    attacks.hunt_seeds(arena)
    attacks.resubmit(arena)
    attacks.memorise(arena)
    attacks.copy_another(arena)
    attacks.post_injection(arena)
    arena.settle()


@pytest.fixture(scope="module")
def desk(toy_root: DataRoot, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """A platform for language-model AARs."""
    run = RunDir(Path(tmp_path_factory.mktemp("run")))
    with bench(toy_root, run, "--task", "gauss") as made:
        yield made


@pytest.fixture(scope="module")
def outside(desk: Bench) -> Iterator[World]:
    with world(desk) as made:
        yield made
