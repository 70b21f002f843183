"""A small language model that really thinks (SmolLM2-135M): slow, bad at research, and alive."""

import language_kit as kit
import pytest

from aarlab.agents.specs import LanguageSpec
from aarlab.testbed.models.catalogue import SMOLLM2
from aarlab.testbed.models.pull import pull
from aarlab.testbed.settings import load_settings


@pytest.mark.model
@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # the library's and the model's own
def test_a_real_model_lives_from_start_to_end(desk: kit.Bench) -> None:
    model_folder = pull(SMOLLM2.name, load_settings().root)
    spec = LanguageSpec(
        model="hf/smollm2",
        model_args={"model_path": str(model_folder), "device": "cpu"},
        max_output_tokens=24,
        forum=False,
        max_turns=2,
        context_tokens=7_000,
    )
    config = desk.config(spec, "small")
    state = kit.live(config)
    assert state.why == "all 2 turns are used up"
    said = [e for e in kit.transcript(config) if e.kind == "assistant"]
    assert len(said) == 2 and all(e.tokens["output_tokens"] > 0 for e in said)
    assert all(e.tokens["input_tokens"] > 300 for e in said)
    with kit.connect(config) as platform:
        me = platform.me()
    assert me.spend["output_tokens"] == sum(e.tokens["output_tokens"] for e in said)
