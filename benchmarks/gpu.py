"""Tokens a second of the published students on a GPU, against Trainer + peft, in one run.

Then by a student server (gpu_server.py): one client, nine clients on one device, float32, memory.

    python benchmarks/gpu.py --data ../shared/data/chat --out benchmarks/gpu.md
    python benchmarks/gpu.py --tiny --data FOLDER --out /tmp/gpu.md      # on a CPU, seconds

A model of Qwen3-4B's shape with random weights learns with LoRA r = 32 in bf16 and batches of 32
rows, whose lengths are those of the folder's train rows (put as the published preset puts them);
token ids are random. Needs no network. Each measurement is a process of its own: some warm-up
steps, then `--steps`. Tokens are those of the rows, without padding. The share of the peak is that
of a large bf16 matrix product measured on the same card; operations are those of the tokens that
went through the blocks: 2 a weight forward, 2 back to the inputs, and attention.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch

Facts = dict[str, Any]
QWEN3_4B: Facts = {
    "vocab_size": 151936, "hidden_size": 2560, "intermediate_size": 9728, "num_hidden_layers": 36,
    "num_attention_heads": 32, "num_key_value_heads": 8, "head_dim": 128, "rms_norm_eps": 1e-6,
    "max_position_embeddings": 32768, "rope_theta": 1e6, "tie_word_embeddings": True,
}  # fmt: skip
TINY = QWEN3_4B | {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
VARIANTS: dict[str, Facts] = {
    "aarlab": {},
    "aarlab, compiled": {"compile": True},
    "aarlab, mlp made again": {"checkpoint": "mlp"},
    "aarlab, blocks made again": {"checkpoint": "block"},
}
PEERS = {"trainer": False, "trainer, checkpointing": True}
BATCH, RANK, CONTEXT, LENGTH_PER_TOKEN = 32, 32, 8192, 3.6


@dataclass(frozen=True)
class Case:
    """One measurement: which variant, on which lengths."""

    mode: str
    lengths: list[int]
    steps: int
    warm_up: int
    tiny: bool
    train_tokens: int
    peer_micro: int

    @property
    def config(self) -> Facts:
        return TINY if self.tiny else QWEN3_4B


def main() -> None:
    given = _arguments()
    if given.one is not None:
        print(json.dumps(_measured(Case(**json.loads(given.one)))))
        return
    lengths, how = _lengths(given.data, given.tokenizer)
    modes = [m for m in given.modes.split(";") if m] or [*VARIANTS, *PEERS]
    facts: Facts = {"peak_tflops": _peak(given.tiny), "lengths": how, "found": []}
    case = Case("", lengths, given.steps, given.warm_up, given.tiny, given.train_tokens,
                given.peer_micro)  # fmt: skip
    print(f"peak {facts['peak_tflops']:.3g} TFLOP/s; lengths {how}", flush=True)
    for mode in modes:
        case = replace(case, mode=mode)
        facts["found"].append({"mode": mode, **_in_process(case)})
        print(facts["found"][-1], flush=True)
        _write(given.out, facts, case)
    if given.server:
        facts["server"] = _server(case, given.scratch)
        print(facts["server"], flush=True)
        _write(given.out, facts, case)


def _server(case: Case, scratch: Path | None) -> Facts:
    """Figures of a student server; on a card it writes the model twice, 8 GB each, into scratch."""
    import gpu_server

    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        served = gpu_server.Served(
            config=case.config, lengths=case.lengths, batch=BATCH, steps=case.steps,
            warm_up=case.warm_up, train_tokens=case.train_tokens, scratch=Path(folder),
        )  # fmt: skip
        return gpu_server.figures(served)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="a folder in the study's format")
    parser.add_argument(
        "--tokenizer", type=Path, help="tokenizer.json; else 3.6 characters a token"
    )
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--train-tokens", type=int, default=8192)
    parser.add_argument("--peer-micro", type=int, default=8, help="rows of a Trainer step")
    parser.add_argument("--modes", default="", help=f"of {[*VARIANTS, *PEERS]}, parted by ;")
    parser.add_argument("--tiny", action="store_true", help="a tiny model, to try the script")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/gpu.md"))
    parser.add_argument("--server", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--scratch", type=Path, help="for the server's model; default: /tmp")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _lengths(folder: Path, tokenizer: Path | None) -> tuple[list[int], str]:
    """Tokens of each train row as a question, in random order."""
    from aarlab.testbed.models.answers import student_items
    from aarlab.testbed.students.options import published_adapter
    from aarlab.testbed.tasks.folder import read_folder

    rows = read_folder(folder, "gpu").splits["train"].examples
    texts = [item.prompt for item in student_items(rows, published_adapter()[0])]
    if tokenizer is None:
        counts = [max(2, round(len(text) / LENGTH_PER_TOKEN)) for text in texts]
        how = f"{folder.name}, {LENGTH_PER_TOKEN} characters a token"
    else:
        from tokenizers import Tokenizer

        counts = [len(one.ids) for one in Tokenizer.from_file(str(tokenizer)).encode_batch(texts)]
        how = f"{folder.name}, {tokenizer.parent.name}'s tokenizer"
    order = np.random.default_rng(0).permutation(len(counts))
    found = [min(counts[i], CONTEXT) for i in order]
    return found, f"{how}: {len(found)} rows, mean {np.mean(found):.0f}, longest {max(found)}"


def _peak(tiny: bool) -> float:
    """TFLOP/s of a large bf16 product, the best of some."""
    n, device = (512, "cpu") if tiny else (8192, "cuda")
    a, b = (torch.randn(n, n, device=device).bfloat16() for _ in range(2))
    best = 0.0
    for _ in range(10):
        begun = _now()
        for _ in range(4):
            a @ b
        best = max(best, 4 * 2 * n**3 / (_now() - begun) / 1e12)
    return best


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def _in_process(case: Case) -> Facts:
    """In a process of its own; one that fails is a row that says so."""
    words = [sys.executable, __file__, "--data", ".", "--one", json.dumps(case.__dict__)]
    done = subprocess.run(words, capture_output=True, text=True, check=False, encoding="utf-8")
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "Error" in line]
        return {"failed": (lines or done.stderr.splitlines()[-1:])[-1][:200]}
    made: Facts = json.loads(done.stdout.splitlines()[-1])
    return made


def _measured(case: Case) -> Facts:
    facts = (_trainer if case.mode in PEERS else _aarlab)(case)
    if torch.cuda.is_available():
        facts["peak_gb"] = torch.cuda.max_memory_allocated() / 1e9
    else:
        facts["peak_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    facts["tokens_per_s"] = facts["tokens"] / facts["seconds"]
    return facts


def _operations(case: Case, lengths: list[int]) -> float:
    """Floating point operations of a step's forward and backward pass through the blocks."""
    c = case.config
    heads, size = c["num_attention_heads"] * c["head_dim"], c["hidden_size"]
    keys = 2 * c["num_key_value_heads"] * c["head_dim"]
    weights = size * (2 * heads + keys) + 3 * size * c["intermediate_size"]
    linear = 4 * weights * sum(lengths)
    attention = sum(6 * heads * n * n for n in lengths)  # 2 products of n n / 2, three times
    return c["num_hidden_layers"] * float(linear + attention)


def _aarlab(case: Case) -> Facts:
    from aarlab.testbed.models.compute import Compute
    from aarlab.testbed.models.token_states import RowTokens
    from aarlab.testbed.students.adapters.packing import Rows
    from aarlab.testbed.students.adapters.tuning import (
        Tuned,
        Tuner,
        fresh_blocks,
        label_readout,
        tune,
    )
    from aarlab.testbed.students.options import published_adapter

    device: Any = "cpu" if case.tiny else "cuda"
    decoder = _random_decoder(case.config, device)
    rng = np.random.default_rng(0)
    ids = [rng.integers(0, case.config["vocab_size"], n).astype(np.int32) for n in case.lengths]
    rows = [RowTokens(one, len(one) - 1) for one in ids]
    adapter, options = published_adapter()
    options = options.model_copy(update={"epochs": 1})
    blocks = fresh_blocks(decoder, (0, decoder.shape.n_blocks), adapter, 0)
    compute = Compute(device, "bfloat16", train_tokens=case.train_tokens, **VARIANTS[case.mode])
    tuner = Tuner(decoder, Tuned(blocks, label_readout(decoder, (1, 2))), compute)

    def steps(start: int, n: int) -> list[int]:
        part = rows[start * BATCH : (start + n) * BATCH]
        targets = rng.random(len(part)).astype(np.float32)
        tune(tuner, Rows(part, 1, range(len(part))), targets, np.ones_like(targets), options)
        return [row.n_tokens for row in part]

    return _timed(case, steps) | {"halved": tuner.halved}


def _random_decoder(config: Facts, device: str) -> Any:
    from aarlab.testbed.models.decoder import Decoder, shape_of

    c, tensors = config, dict[str, torch.Tensor]()
    size, wide = c["hidden_size"], c["intermediate_size"]
    heads, keys = (c[n] * c["head_dim"] for n in ("num_attention_heads", "num_key_value_heads"))
    shapes = {"q_proj": (heads, size), "k_proj": (keys, size), "v_proj": (keys, size),
              "o_proj": (size, heads)}  # fmt: skip
    for i in range(c["num_hidden_layers"]):
        at = f"model.layers.{i}."
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = torch.ones(size, device=device).bfloat16()
        for name, shape in shapes.items():
            tensors[f"{at}self_attn.{name}.weight"] = _drawn(shape, device)
        for name in ("q_norm", "k_norm"):
            ones = torch.ones(c["head_dim"], device=device)
            tensors[f"{at}self_attn.{name}.weight"] = ones.bfloat16()
        for name, shape in (("gate", (wide, size)), ("up", (wide, size)), ("down", (size, wide))):
            tensors[f"{at}mlp.{name}_proj.weight"] = _drawn(shape, device)
    tensors["model.embed_tokens.weight"] = _drawn((c["vocab_size"], size), device)
    tensors["model.norm.weight"] = torch.ones(size, device=device).bfloat16()
    return Decoder(shape_of({**c, "model_type": "qwen3", "hidden_act": "silu"}), tensors)


def _drawn(shape: tuple[int, int], device: str) -> torch.Tensor:
    return torch.empty(shape, device=device, dtype=torch.bfloat16).normal_(std=0.02)


def _timed(case: Case, steps: Callable[[int, int], list[int]]) -> Facts:
    steps(0, case.warm_up)
    begun = _now()
    lengths = steps(case.warm_up, case.steps)
    seconds = _now() - begun
    work = _operations(case, lengths)
    return {"seconds": seconds, "tokens": sum(lengths), "tflops": work / seconds / 1e12}


def _trainer(case: Case) -> Facts:
    """As a user would write it: sequence classification, so no vocabulary either; dynamic padding,
    lengths grouped, bf16 weights, fused optimiser, SDPA."""
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        Qwen3Config,
        Trainer,
        TrainerCallback,
        TrainingArguments,
    )

    torch.manual_seed(0)
    config = Qwen3Config(**case.config, num_labels=2, pad_token_id=0)
    with torch.device("cpu" if case.tiny else "cuda"):
        model = AutoModelForSequenceClassification.from_config(config, dtype=torch.bfloat16)
    model = get_peft_model(
        model,
        LoraConfig(r=RANK, lora_alpha=RANK, task_type="SEQ_CLS", target_modules="all-linear",
                   modules_to_save=["score"]),
    )  # fmt: skip
    rng = np.random.default_rng(0)
    rows = [
        {"input_ids": rng.integers(1, config.vocab_size, n).tolist(), "labels": int(n % 2)}
        for n in case.lengths[: (case.warm_up + case.steps) * BATCH]
    ]
    begun = list[float]()
    work = list[list[int]]()  # rows of each call of the collator, which is one call ahead

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_end(self, args: Any, state: Any, control: Any, **more: Any) -> None:
            if state.global_step == case.warm_up:
                begun.append(_now())

    def padded(part: list[Facts]) -> Facts:
        longest = max(len(row["input_ids"]) for row in part)
        work.append([len(row["input_ids"]) for row in part])
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        for i, row in enumerate(part):
            ids[i, : len(row["input_ids"])] = torch.tensor(row["input_ids"])
        labels = torch.tensor([row["labels"] for row in part])
        return {"input_ids": ids, "attention_mask": (ids > 0).long(), "labels": labels}

    micro = min(case.peer_micro, BATCH)
    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch, max_steps=case.warm_up + case.steps, per_device_train_batch_size=micro,
            gradient_accumulation_steps=BATCH // micro, learning_rate=1e-4, bf16=True,
            lr_scheduler_type="linear", gradient_checkpointing=PEERS[case.mode],
            optim="adamw_torch" if case.tiny else "adamw_torch_fused", report_to=[],
            train_sampling_strategy="group_by_length", save_strategy="no", logging_strategy="no",
            disable_tqdm=True, use_cpu=case.tiny, dataloader_num_workers=0,
        )  # fmt: skip
        Trainer(model, arguments, train_dataset=rows, data_collator=padded,
                callbacks=[Clock()]).train()  # fmt: skip
    seconds = _now() - begun[0]
    each = BATCH // micro
    timed = work[case.warm_up * each : (case.warm_up + case.steps) * each]
    lengths = [n for part in timed for n in part]
    tflops = _operations(case, lengths) / seconds / 1e12
    return {"seconds": seconds, "tokens": sum(lengths), "tflops": tflops}


def _write(out: Path, facts: Facts, case: Case) -> None:
    card = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU: CPU only"
    shape = "tiny" if case.tiny else "Qwen3-4B"
    meant = (
        "**A tiny model on a CPU, to show that the script runs: no figure here is one of a card.**"
    )
    lines = [
        f"# {shape} shape, LoRA r = {RANK}\n\n{datetime.now(UTC).date()}, {card}, "
        f"{os.cpu_count()} cores {platform.machine()}, torch {torch.__version__}; bf16, batches of "
        f"{BATCH} rows, {case.steps} steps; lengths of {facts['lengths']}. Peak of a bf16 product: "
        f"{facts['peak_tflops']:.3g} TFLOP/s. Made by `benchmarks/gpu.py`.\n",
        *([f"{meant} Other work ran on the same cores.\n"] if case.tiny else []),
        "| what | tokens/s | share of the peak | peak memory GB |\n|---|---|---|---|",
    ]
    for one in facts["found"]:
        if "failed" in one:
            lines.append(f"| {one['mode']} | failed: {one['failed']} | | |")
            continue
        share = one["tflops"] / facts["peak_tflops"]
        lines.append(
            f"| {one['mode']} | {one['tokens_per_s']:,.0f} | {share:.1%} | {one['peak_gb']:.1f} |"
        )
    if "server" in facts:
        import gpu_server

        lines += gpu_server.page(facts["server"])
    out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
