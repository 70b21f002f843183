"""The same experiment with Hugging Face Trainer + peft LoRA and with aarlab, side by side.

    aarlab task build math --seed 2026        # caches the features that `probe` starts from
    python benchmarks/peer.py --rows 400 --repetitions 3 --out benchmarks/peer.md

The strong student (the first 21 blocks of the embedded model) learns the truth of the first rows
of train (a ceiling: accuracies are then comparable) and is judged on the search split. Every
measurement is a process of its own, one after the other, the order turned in each repetition; peak
memory is that of the process. `features` is aarlab's one-time preparation for this experiment,
computed anew without a cache: the states of teacher and student; `features_logp` is what a task
stores, with both log-likelihoods of each answer through all blocks.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

MODES = ("trainer", "features", "features_logp", "probe", "top_blocks")
LAYER, EPOCHS = 21, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task-seed", type=int, default=2026, help="of the generated math rows")
    parser.add_argument("--rows", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/peer.md"))
    parser.add_argument("--one", choices=MODES, help="one measurement, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(_measure(given)))
        return
    found: list[dict[str, Any]] = []
    for repetition in range(given.repetitions):
        at = repetition % len(MODES)
        turned = MODES[at:] + MODES[:at]
        for mode in turned:
            found.append(_in_process(given, mode, repetition))
            print({k: v for k, v in found[-1].items()}, flush=True)
            _write(given, found)


def _in_process(given: argparse.Namespace, mode: str, seed: int) -> dict[str, Any]:
    words = [sys.executable, __file__, "--one", mode, "--seed", str(seed)]
    words += ["--task-seed", str(given.task_seed), "--rows", str(given.rows)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    made: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return made


def _measure(given: argparse.Namespace) -> dict[str, Any]:
    """Seconds of the measured part, accuracy on search, tokens trained, peak memory in MB."""
    rows = _rows(given)
    measured = {"trainer": _trainer, "probe": _probe, "top_blocks": _blocks}
    if given.one in measured:
        facts = measured[given.one](rows, given.seed)
    else:
        facts = _features(rows, logp=given.one == "features_logp")
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mode": given.one, "seed": given.seed, "peak_mb": round(peak_mb), **facts}


def _rows(given: argparse.Namespace) -> dict[str, Any]:
    """Inputs and truth of the generated rows, and the embedded pair's feature cache."""
    import numpy as np

    from aarlab.cli.settings import data_root
    from aarlab.testbed.generators.presets import preset
    from aarlab.testbed.generators.registry import generate
    from aarlab.testbed.making import Workshop

    root, made = data_root(), preset("math", given.task_seed)
    splits = generate("math", made.settings).splits
    rows: dict[str, Any] = {"root": root, "options": made.student}
    rows["cache"] = Workshop(root, lambda line: None).feature_cache("smollm2-135m")
    order = np.random.default_rng(0).permutation(len(splits["train"].examples))[: given.rows]
    for split, chosen in (("train", order), ("search", range(len(splits["search"].examples)))):
        inputs = [splits[split].examples[i] for i in chosen]
        rows[split] = (inputs, splits[split].targets_N[list(chosen)].astype(np.float64))
    return rows


def _trainer(rows: dict[str, Any], seed: int) -> dict[str, Any]:
    """As a user would write it: sequence classification, dynamic padding, lengths grouped, bf16."""
    import numpy as np
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = rows["root"].models / "smollm2-135m"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, num_hidden_layers=LAYER, dtype=torch.bfloat16,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    lora = LoraConfig(r=8, lora_alpha=16, task_type="SEQ_CLS", target_modules="all-linear",
                      modules_to_save=["score"])  # fmt: skip
    model = get_peft_model(model, lora)

    def encoded(split: str) -> list[dict[str, Any]]:
        inputs, targets = rows[split]
        texts = [f"{e.prompt}\n{e.answers[0]}" for e in inputs]
        tokens = tokenizer(texts)["input_ids"]
        return [{"input_ids": t, "labels": int(y)} for t, y in zip(tokens, targets, strict=True)]

    with tempfile.TemporaryDirectory() as scratch:
        arguments = TrainingArguments(
            scratch, num_train_epochs=EPOCHS, per_device_train_batch_size=8, learning_rate=1e-3,
            per_device_eval_batch_size=64, lr_scheduler_type="linear", bf16=True, seed=seed,
            train_sampling_strategy="group_by_length", report_to=[], save_strategy="no",
            logging_strategy="no", disable_tqdm=True, use_cpu=True,
        )  # fmt: skip
        train, search = encoded("train"), encoded("search")
        trainer = Trainer(model, arguments, train_dataset=train, eval_dataset=search,
                          data_collator=DataCollatorWithPadding(tokenizer))  # fmt: skip
        begun = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - begun
        answers = trainer.predict(search).predictions.argmax(axis=1)
        total = time.perf_counter() - begun
    accuracy = float(np.mean(answers == rows["search"][1]))
    tokens = EPOCHS * sum(len(row["input_ids"]) for row in train)
    return {"seconds": total, "accuracy": accuracy, "tokens_per_s": tokens / seconds}


def _features(rows: dict[str, Any], logp: bool) -> dict[str, Any]:
    from aarlab.testbed.models.cache import FeatureCache, ModelId
    from aarlab.testbed.models.lm import loader
    from aarlab.testbed.models.record import read_record

    folder = rows["root"].models / "smollm2-135m"
    with tempfile.TemporaryDirectory() as scratch:
        model = ModelId("smollm2-135m", read_record(folder).key)
        cache = FeatureCache([], model, Path(scratch), loader(folder, None))
        begun = time.perf_counter()
        for split in ("train", "search"):
            cache.precompute(rows[split][0], (12, LAYER), logp=logp)
        return {"seconds": time.perf_counter() - begun}


def _probe(rows: dict[str, Any], seed: int) -> dict[str, Any]:
    """Loading the cached states, training and predicting."""
    from threadpoolctl import threadpool_limits

    from aarlab.testbed.student import StudentFactory

    cache = rows["cache"]
    with threadpool_limits(1):
        begun = time.perf_counter()
        for split in ("train", "search"):
            cache.states(rows[split][0], LAYER)
        loaded = time.perf_counter() - begun
        factory = StudentFactory(cache, LAYER, rows["options"])
        return {"load_s": loaded, **_timed(factory, rows, seed)}


def _blocks(rows: dict[str, Any], seed: int) -> dict[str, Any]:
    from aarlab.testbed.options import embedded_adapter
    from aarlab.testbed.student import StudentFactory

    (adapter, options), cache = embedded_adapter(), rows["cache"]
    factory = StudentFactory(cache, LAYER, options, adapter=adapter)
    begun = time.perf_counter()
    lower = [factory.new()._rows(rows[split][0]) for split in ("train", "search")]  # type: ignore[attr-defined]
    prepared = time.perf_counter() - begun
    tokens = EPOCHS * int(lower[0].lengths_N().sum())
    facts = _timed(factory, rows, seed)
    return {"prepare_s": prepared, **facts, "tokens_per_s": tokens / facts["fit_s"]}


def _timed(factory: Any, rows: dict[str, Any], seed: int) -> dict[str, Any]:
    begun = time.perf_counter()
    options = factory.options.model_copy(update={"seed": seed})
    student = factory.new(options).fit(*rows["train"])
    fitted = time.perf_counter() - begun
    probs = student.predict_proba(rows["search"][0])
    seconds = time.perf_counter() - begun
    accuracy = float(((probs > 0.5) == rows["search"][1]).mean())
    return {"seconds": seconds, "fit_s": fitted, "accuracy": accuracy}


def _write(given: argparse.Namespace, found: list[dict[str, Any]]) -> None:
    import torch

    named = {mode: [one for one in found if one["mode"] == mode] for mode in MODES}
    lines = [
        f"# Against Trainer + peft\n\n{datetime.now(UTC).date()}, {os.cpu_count()} cores "
        f"{platform.machine()}, torch {torch.__version__}, math rows of seed {given.task_seed}, "
        f"{given.rows} train rows, {EPOCHS} epochs, {len(found)} measurements, each a process of "
        "its own; median [all]. Trainer: LoRA r = 8 on all 21 blocks, batch 8 (with 32 it made too "
        "few steps to learn), lr 1e-3. Made by `benchmarks/peer.py`.\n",
        "| what | seconds | accuracy | tokens/s | peak MB |\n|---|---|---|---|---|",
    ]
    for mode, ones in named.items():
        if ones:
            cells = [_cell(ones, key) for key in ("seconds", "accuracy", "tokens_per_s", "peak_mb")]
            lines.append(f"| {mode} | {' | '.join(cells)} |")
    if all(named.values()):
        lines.append("\n" + _ratios(named))
    given.out.write_text("\n".join(lines) + "\n")
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n")


def _cell(ones: list[dict[str, Any]], key: str) -> str:
    values = [one[key] for one in ones if key in one]
    if not values:
        return ""
    show = (lambda v: f"{v:.3f}") if key == "accuracy" else (lambda v: f"{v:,.4g}")
    return f"{show(statistics.median(values))} [{', '.join(show(v) for v in values)}]"


def _ratios(named: dict[str, list[dict[str, Any]]]) -> str:
    def median(mode: str, key: str = "seconds") -> float:
        return statistics.median([one.get(key, 0.0) for one in named[mode]])

    peer, probe, blocks = median("trainer"), median("probe"), median("top_blocks")
    once, lower = median("features"), max(o["prepare_s"] for o in named["top_blocks"])
    five = 5 * peer / (once + median("probe", "load_s") + 5 * probe)
    return (
        f"- 5 seeds of `probe`, one-time preparation counted: {five:.0f} times faster.\n"
        f"- Each further `probe` method: {peer / probe:.0f} times.\n"
        f"- `top_blocks`, lower states there: {peer / blocks:.1f} times; these take "
        f"{lower:.0f} s once."
    )


if __name__ == "__main__":
    main()
