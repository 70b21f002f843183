"""One arena for all tests here: every attack and every honest method, then the verifier."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

import attacks
from arena import Arena, open_arena


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
