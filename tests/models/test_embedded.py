"""The embedded model itself: fetched by name, checked, and a language model indeed."""

import numpy as np
import pytest

from aarlab.testbed.models.answers import AnswerItem, Wanted
from aarlab.testbed.models.catalogue import SMOLLM2
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.pull import pull
from aarlab.testbed.settings import load_settings

pytestmark = pytest.mark.model


def test_the_embedded_model_prefers_sense_to_nonsense() -> None:
    model = LanguageModel.load(pull(SMOLLM2.name, load_settings().root))
    right = AnswerItem("What is the capital of France?", "The capital of France is Paris.")
    wrong = AnswerItem("What is the capital of France?", "France Paris the is of capital The.")
    other = AnswerItem("What is the boiling point of water?", "The capital of France is Paris.")
    found = model.features([right, wrong, other], Wanted((9, 21), logp=True))
    assert found.logp_I3 is not None
    given_I, alone_I, tokens_I = found.logp_I3.T
    assert given_I[0] > given_I[1] + 5 and given_I[0] > given_I[2] + 2
    assert alone_I[0] == alone_I[2] and tokens_I[0] == 7
    # -7.5 nats is what the float32 original gives for the right answer.
    assert np.isfinite(found.states_LID).all() and found.states_LID.shape == (2, 3, SMOLLM2.width)
