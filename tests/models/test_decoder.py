"""The decoder computes what transformers' model classes compute, for every supported family."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from aarlab.core.errors import BadInput
from aarlab.testbed.models.decoder import FAMILIES, Decoder, shape_of


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_states_and_log_probs_are_those_of_transformers(
    family: str, tiny_folders: dict[str, Path]
) -> None:
    folder = tiny_folders[family]
    original = AutoModelForCausalLM.from_pretrained(folder, local_files_only=True).eval()
    config = json.loads((folder / "config.json").read_text())
    decoder = Decoder(shape_of(config), load_file(folder / "model.safetensors"))
    tokens_BT = torch.randint(0, 300, (2, 17), generator=torch.Generator().manual_seed(1))
    expected = original(tokens_BT, output_hidden_states=True)
    positions_BT = torch.arange(17).expand(2, -1)
    visible_BTT = torch.ones(17, 17, dtype=torch.bool).tril().expand(2, -1, -1)
    found = list(decoder.hidden(tokens_BT, positions_BT, visible_BTT, decoder.shape.n_blocks))
    assert len(found) == decoder.shape.n_blocks + 1
    for layer in range(decoder.shape.n_blocks):
        torch.testing.assert_close(found[layer], expected.hidden_states[layer])
    log_probs = decoder.log_probs(found[-1][:, :-1].flatten(0, 1), tokens_BT[:, 1:].flatten())
    expected_V = expected.logits[:, :-1].log_softmax(-1)
    torch.testing.assert_close(
        log_probs, expected_V.gather(2, tokens_BT[:, 1:, None]).flatten(), rtol=1e-4, atol=1e-4
    )


GOOD = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 8,
    "num_attention_heads": 2,
    "max_position_embeddings": 64,
    "rms_norm_eps": 1e-5,
    "hidden_act": "silu",
}


@pytest.mark.parametrize(
    "change",
    [
        {"model_type": "gpt2"},
        {"rope_parameters": {"rope_type": "llama3", "rope_theta": 1.0}},
        {"rope_scaling": {"type": "linear", "factor": 2.0}},
        {"use_sliding_window": True},
        {"hidden_act": "gelu"},
    ],
)
def test_an_architecture_that_would_be_computed_wrongly_is_refused(
    change: dict[str, object],
) -> None:
    assert shape_of(GOOD).head_dim == 4
    with pytest.raises(BadInput):
        shape_of(GOOD | change)


def test_missing_and_unknown_weights_are_refused(tiny_folders: dict[str, Path]) -> None:
    folder = tiny_folders["llama"]
    shape = shape_of(json.loads((folder / "config.json").read_text()))
    tensors = load_file(folder / "model.safetensors")
    with pytest.raises(BadInput, match=r"model\.norm\.weight"):
        Decoder(shape, {k: v for k, v in tensors.items() if k != "model.norm.weight"})
    biased = tensors | {"model.layers.1.mlp.down_proj.bias": torch.zeros(32)}
    with pytest.raises(BadInput, match=r"down_proj\.bias"):
        Decoder(shape, biased)
