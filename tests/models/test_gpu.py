"""The GPU benchmark runs here with a tiny model; on a card, students agree with a CPU's."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_task import word_rows

from aarlab.testbed.models.compute import Compute
from aarlab.testbed.models.decoder import Decoder
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.students.adapters.packing import Pack, Rows
from aarlab.testbed.students.adapters.tuning import Tuned, Tuner, fresh_blocks, mean_readout
from aarlab.testbed.students.options import AdapterOptions

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
SPLITS = {"train_label": "a", "train_unlabel": "b", "test": "c"}


def benchmark(tmp_path: Path, *more: str, longer: str = "") -> tuple[dict, str]:
    """Run the benchmark with a tiny model; return its figures and its page.

    `longer` is added to each question.
    """
    for stem, seed in SPLITS.items():
        examples, targets = word_rows(96, seed)
        rows = [
            {
                "question": e.prompt + longer,
                "choice": e.answers[0],
                "label": bool(t),
                "group": e.group,
            }
            for e, t in zip(examples, targets, strict=True)
        ]
        (tmp_path / f"{stem}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    out = tmp_path / "gpu.md"
    words = [sys.executable, str(SCRIPT), "--tiny", "--data", str(tmp_path), "--out", str(out)]
    words += ["--steps", "1", "--warm-up", "1", *more]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(out.with_suffix(".json").read_text(encoding="utf-8"))
    return found, out.read_text(encoding="utf-8")


@pytest.mark.gate
def test_the_benchmark_runs_without_a_card(tmp_path: Path) -> None:
    found, page = benchmark(tmp_path, "--modes", "aarlab;trainer", "--no-server")
    assert [one["mode"] for one in found["found"]] == ["aarlab", "trainer"]
    assert found["peak_tflops"] > 0
    assert all(one["tokens_per_s"] > 0 and one["tflops"] > 0 for one in found["found"]), found
    assert "no GPU" in page and "student server" not in page


@pytest.mark.gate
def test_the_benchmark_asks_a_student_server(tmp_path: Path) -> None:
    # The words around a question are 27 tokens of the tiny tokenizer. A row that is to be shorter
    # has 28 all the same: the server's rows are texts, those of the modes bare token ids.
    found, page = benchmark(tmp_path, "--modes", "aarlab", longer=" and so on" * 20)
    one, many, exact = (found["server"][name] for name in ("one", "many", "float32"))
    assert many["clients"] == 9 and many["tokens"] == 9 * one["tokens"] > 0
    assert one["tokens"] == found["found"][0]["tokens"] > 32 * 28, "the same rows in both"
    assert 0 < many["device_s_least_of_most"] <= 1
    assert exact["correlation"] > 0.99 and exact["same_answer"] > 0.9
    assert "## By a student server" in page


def gradients(model: LanguageModel, device: str) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Log-odds of some preference rows by random low-rank updates, and their gradients."""
    decoder = moved(model.decoder, device)
    examples, _ = word_rows(12, "train", answers=2)
    items = [item for e in examples for item in items_of(e)]
    rows = Rows(model.row_tokens(items), 2, [item.prompt for item in items])
    blocks = fresh_blocks(decoder, (0, 3), AdapterOptions(kind="lora", rank=4), 0)
    readout = mean_readout(decoder, np.eye(4, decoder.shape.width, dtype=np.float32))
    tuned, random = Tuned(blocks, readout), torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in tuned.trained():
            weight.copy_(0.2 * torch.randn(weight.shape, generator=random))
    compute = Compute("cuda" if device == "cuda" else "cpu")
    logits = Tuner(decoder, tuned, compute).logits(rows, np.arange(len(rows)))
    slopes = torch.linspace(-1, 1, len(rows), device=device)
    grads = torch.autograd.grad(logits, tuned.trained(), slopes)
    return logits.detach().cpu(), [grad.cpu() for grad in grads]


def items_of(example):
    from aarlab.testbed.models.answers import student_items

    return student_items([example], AdapterOptions())


def moved(decoder: Decoder, device: str) -> Decoder:
    """The same weights on another device."""
    made = Decoder.__new__(Decoder)
    made.shape = decoder.shape
    for name in ("embedding_VD", "head_VD", "final_norm_D"):
        setattr(made, name, getattr(decoder, name).to(device))
    made.blocks = [
        replace(block, **{n: t.to(device) for n in block.__dataclass_fields__
                          if isinstance(t := getattr(block, n), torch.Tensor)})
        for block in decoder.blocks
    ]  # fmt: skip
    return made


def agree(tiny: Path, device: str) -> None:
    expected, slopes = gradients(LanguageModel.load(tiny, 1, torch.float32), "cpu")
    found, grads = gradients(LanguageModel.load(tiny, 1, torch.bfloat16), device)
    assert torch.nn.functional.cosine_similarity(found, expected, dim=0) > 0.99
    for one, other in zip(grads, slopes, strict=True):
        if other.norm() > 1e-3:
            assert (
                torch.nn.functional.cosine_similarity(one.ravel(), other.ravel(), dim=0) > 0.95
            )  # weights drawn large


def test_bf16_gradients_follow_float32_on_this_processor(tiny: Path) -> None:
    agree(tiny, "cpu")


@pytest.mark.gpu
def test_bf16_gradients_on_a_card_follow_float32_on_a_cpu(tiny: Path) -> None:
    agree(tiny, "cuda")


@pytest.mark.gpu
@pytest.mark.parametrize("kept", [False, True])
def test_the_cuda_kernel_attends_as_plain_attention(tiny: Path, kept: bool) -> None:
    model = LanguageModel.load(tiny, 1, torch.bfloat16)
    examples, _ = word_rows(12, "train", answers=2)
    items = [item for e in examples for item in items_of(e)]
    rows = Rows(model.row_tokens(items), 2, [item.prompt for item in items])
    on_cpu = Pack(rows, range(len(items)), model.decoder)
    on_card = Pack(rows, range(len(items)), moved(model.decoder, "cuda"))
    n = len(on_cpu.kept_K) if kept else len(on_cpu.positions_T)
    sizes = ((n, 4), (len(on_cpu.positions_T), 2), (len(on_cpu.positions_T), 2))
    q, k, v = (torch.randn(t, h, 64).bfloat16() for t, h in sizes)
    found = on_card.attend(q.cuda(), k.cuda(), v.cuda(), kept).cpu()
    torch.testing.assert_close(found, on_cpu.attend(q, k, v, kept), rtol=0.03, atol=0.03)
