"""Tiny random models of each supported family, in Hugging Face format and as a GGUF file."""

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    AutoModelForCausalLM,
    LlamaConfig,
    MistralConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
)

from aarlab.testbed.models.catalogue import ModelEntry, Source

CONFIGS = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
}
N_BLOCKS, WIDTH, VOCABULARY = 3, 32, 320
CORPUS = [
    "What is the sum of 4 and 9? The sum of 4 and 9 is 13, as 9 plus 4 makes 13.",
    "def total(xs): return sum(x * x for x in xs if x % 2 == 0)",
    "What does harbour mean? A sheltered part of the sea where ships may anchor.",
]


def tiny_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    return tokenizer


def tiny_model(family: str, seed: int = 0) -> Any:
    """Random weights, large enough that attention and biases matter."""
    config = CONFIGS[family](
        vocab_size=VOCABULARY,
        hidden_size=WIDTH,
        intermediate_size=64,
        num_hidden_layers=N_BLOCKS,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        max_position_embeddings=256,
        sliding_window=None,
        tie_word_embeddings=family != "qwen2",
        initializer_range=0.3,
    )
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(config).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    return model


def save_tiny(family: str, folder: Path) -> None:
    """A tiny model and its tokenizer in Hugging Face format."""
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=tiny_tokenizer(), bos_token="<s>", eos_token="</s>"
    )
    tiny_model(family).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def tiny_entry(source: Source, name: str = "tiny", context: int = 128) -> ModelEntry:
    return ModelEntry(
        name=name,
        title="tiny random model",
        source=source,
        license="Apache-2.0",
        n_blocks=N_BLOCKS,
        width=WIDTH,
        family="base",
        context=context,
    )


def write_gguf(path: Path) -> None:
    """A tiny llama as an F32 GGUF file with its tokenizer."""
    writer = gguf.GGUFWriter(path, "llama")
    _write_shape(writer)
    _write_tokenizer(writer)
    for name, tensor in _gguf_tensors(tiny_model("llama", seed=1)).items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _write_shape(writer: gguf.GGUFWriter) -> None:
    writer.add_block_count(N_BLOCKS)
    writer.add_context_length(256)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(64)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_rope_dimension_count(8)
    writer.add_vocab_size(VOCABULARY)


def _write_tokenizer(writer: gguf.GGUFWriter) -> None:
    trained = tiny_tokenizer()
    vocabulary = sorted(trained.get_vocab().items(), key=lambda pair: pair[1])
    tokens = [token for token, _ in vocabulary]
    tokens += [f"<unused{i}>" for i in range(VOCABULARY - len(tokens))]
    merges = json.loads(trained.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(tokens)
    writer.add_token_types([3, 3] + [1] * (VOCABULARY - 2))
    writer.add_token_merges([" ".join(merge) for merge in merges])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)


GGUF_NAMES = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}


def _gguf_tensors(model: Any) -> dict[str, Any]:
    state = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    tensors = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": state["model.norm.weight"],
    }
    for i in range(N_BLOCKS):
        for theirs, ours in GGUF_NAMES.items():
            array = state[f"model.layers.{i}.{theirs}.weight"]
            if ours in ("attn_q", "attn_k"):
                array = _interleaved(array, 4 if ours == "attn_q" else 2)
            tensors[f"blk.{i}.{ours}.weight"] = array
    return tensors


def _interleaved(weight: Any, n_heads: int) -> Any:
    """llama.cpp's order of rotary dimensions: pairs side by side instead of halves."""
    halves = weight.reshape(n_heads, 2, -1, weight.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(weight.shape))
