"""A skimming teacher sees a share of an answer's tokens, anew for each seed, alike each time."""

from dataclasses import dataclass

import numpy as np
import pytest

from aarlab.core.errors import BadInput
from aarlab.core.types import Example
from aarlab.testbed.models.token_states import RowTokens
from aarlab.testbed.students.options import AdapterOptions, TeacherOptions
from aarlab.testbed.students.teacher import Skimmer

WIDTH = 50


@dataclass
class Tokens:
    """A source whose answer "3 4 5" has the tokens 3, 4, 5; each embedding is a unit vector."""

    asked: int = 0

    def language_model(self):
        return self

    def embeddings(self):
        return np.eye(WIDTH, dtype=np.float32)

    def lower_rows(self, items, layer):
        assert layer == 0
        self.asked += len(items)
        return [
            RowTokens(np.array([0, 0, *map(int, item.answer.split())], np.int32), 2)
            for item in items
        ]


def row(*answers: str) -> Example:
    return Example("id", "group", "a prompt of other words", answers)


LONG = " ".join(str(n) for n in range(1, 41))


def test_it_sees_a_share_of_the_answer_and_nothing_of_the_prompt():
    states_NAD = Skimmer(Tokens(), 0.4).states([row(LONG, "7")], seed=3)
    assert states_NAD.shape == (1, 2, WIDTH)
    seen = np.flatnonzero(states_NAD[0, 0])
    assert len(seen) == 16 and set(seen) <= set(range(1, 41))
    np.testing.assert_allclose(states_NAD[0, 0, seen], 1 / 16)
    np.testing.assert_allclose(states_NAD[0, 1], np.eye(WIDTH)[7])  # at least one token


def test_the_same_answer_is_read_alike_and_by_another_seed_otherwise():
    source = Tokens()
    skimmer = Skimmer(source, 0.5)
    alone = skimmer.states([row(LONG)], seed=5)
    among = skimmer.states([row("1 2"), row(LONG), row("9")], seed=5)
    np.testing.assert_array_equal(alone[0], among[1])
    other = skimmer.states([row(LONG)], seed=6)
    overlap = len(set(np.flatnonzero(alone[0, 0])) & set(np.flatnonzero(other[0, 0])))
    assert 4 <= overlap <= 16  # of 20, where chance has 10
    assert source.asked == 3  # each answer is tokenised once


def test_each_place_is_as_likely():
    skimmer = Skimmer(Tokens(), 0.25)
    counts_D = sum((skimmer.states([row(LONG)], seed)[0, 0] > 0).astype(int) for seed in range(400))
    assert counts_D[1:41].min() > 60 and counts_D[1:41].max() < 145  # of 400, mean 100


def test_a_teacher_with_an_adapter_does_not_skim():
    with pytest.raises(BadInput, match="no skim"):
        TeacherOptions(adapter=AdapterOptions(), calibrate=False, skim=0.4)
