"""The same experiment with Hugging Face Trainer + peft LoRA and with aarlab, side by side.

    python benchmarks/peer.py --repetitions 3 --minutes 35 --out benchmarks/peer.md
    python benchmarks/peer.py --rows 16 --search-rows 16 --repetitions 1 --out /tmp/peer.md   # dry

The strong student (the first 21 blocks of the embedded model) learns the truth of the first rows
of train (a ceiling: accuracies are then comparable) and is judged on the search split. Every
measurement is a process of its own, one after the other, the order turned in each repetition; peak
memory is that of the process. Loading a model is counted for nobody. Before the first measurement
the features are put into the data root's cache, for the modes that find them there.

    trainer      Trainer + peft, one seed
    probe_5      states of both cuts computed anew, then 5 seeds of `probe`
    probe        one more `probe`, states there
    blocks_cold  `top_blocks`, one seed, lower states computed anew
    blocks       one more `top_blocks`, lower states there
    task         what `aarlab task build` computes for these rows: both log-likelihoods too

A further repetition is begun only where `--minutes` leave time for one as long as the longest.
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
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

MODES = ("trainer", "probe_5", "probe", "blocks_cold", "blocks", "task")
MODEL, WEAK_LAYER, LAYER, EPOCHS, SEEDS = "smollm2-135m", 12, 21, 3, 5
SPLITS = ("train", "search")
Facts = dict[str, Any]


def main() -> None:
    given = _arguments()
    if given.one:
        print(json.dumps(_measure(given)))
        return
    modes = tuple(mode for mode in given.modes.split(",") if mode)
    begun, longest, found = time.monotonic(), 0.0, list[Facts]()
    _in_process(given, "prepare", 0)
    for repetition in range(given.repetitions):
        started = time.monotonic()
        if started - begun + longest > 60 * given.minutes:
            print(f"no time for repetition {repetition + 1}: --minutes {given.minutes}")
            break
        at = repetition % len(modes)
        for mode in modes[at:] + modes[:at]:
            found.append(_in_process(given, mode, repetition))
            print(found[-1], flush=True)
            _write(given, found)
        longest = max(longest, time.monotonic() - started)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task-seed", type=int, default=2026, help="of the generated math rows")
    parser.add_argument("--rows", type=int, default=400, help="of train")
    parser.add_argument("--search-rows", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=600.0)
    parser.add_argument("--modes", default=",".join(MODES), help="which, comma separated")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/peer.md"))
    parser.add_argument("--one", choices=("prepare", *MODES), help="one measurement, as JSON")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


def _in_process(given: argparse.Namespace, mode: str, seed: int) -> Facts:
    words = [sys.executable, __file__, "--one", mode, "--seed", str(seed)]
    words += ["--task-seed", str(given.task_seed), "--rows", str(given.rows)]
    words += ["--search-rows", str(given.search_rows)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, encoding="utf-8")
    made: Facts = json.loads(done.stdout.splitlines()[-1])
    return made


def _measure(given: argparse.Namespace) -> Facts:
    """Seconds of the measured part, accuracy on search, tokens trained, peak memory in MB."""
    measured: dict[str, Callable[[Facts, int], Facts]] = {
        "prepare": _prepare,
        "trainer": _trainer,
        "probe_5": _five_probes,
        "probe": _probe,
        "blocks_cold": _cold_blocks,
        "blocks": _blocks,
        "task": _task,
    }
    facts = measured[given.one](_rows(given), given.seed)
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"mode": given.one, "seed": given.seed, "peak_mb": round(peak_mb), **facts}


def _rows(given: argparse.Namespace) -> Facts:
    """Inputs and truth of the generated rows, and the data root's feature cache."""
    from aarlab.cli.settings import data_root
    from aarlab.testbed.tasks.generators.registry import generate, preset
    from aarlab.testbed.tasks.making import Workshop

    root, made = data_root(), preset("math", given.task_seed)
    splits = generate("math", made.settings).splits
    rows: Facts = {"root": root, "options": made.student}
    rows["cache"] = Workshop(root, lambda line: None).feature_cache(MODEL)
    order = np.random.default_rng(0).permutation(len(splits["train"].examples))[: given.rows]
    for split, chosen in (("train", order), ("search", range(given.search_rows))):
        inputs = [splits[split].examples[i] for i in chosen]
        rows[split] = (inputs, splits[split].targets_N[list(chosen)].astype(np.float64))
    return rows


def _prepare(rows: Facts, seed: int) -> Facts:
    """Fills the data root's cache for the modes that find their states there."""
    for split in SPLITS:
        rows["cache"].states(rows[split][0], LAYER)
        _block_factory(rows, rows["cache"]).new().rows_of(rows[split][0])
    return {}


def _trainer(rows: Facts, seed: int) -> Facts:
    """As a user would write it: sequence classification, dynamic padding, lengths grouped, bf16."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import (
        AutoModelForSequenceClassification,
        AutoTokenizer,
        DataCollatorWithPadding,
        Trainer,
        TrainingArguments,
    )

    folder = rows["root"].models / MODEL
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModelForSequenceClassification.from_pretrained(
        folder, num_labels=2, num_hidden_layers=LAYER, dtype=torch.bfloat16,
        pad_token_id=tokenizer.pad_token_id,
    )  # fmt: skip
    lora = LoraConfig(r=8, lora_alpha=16, task_type="SEQ_CLS", target_modules="all-linear",
                      modules_to_save=["score"])  # fmt: skip
    model = get_peft_model(model, lora)

    def encoded(split: str) -> list[Facts]:
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


def _empty_cache(rows: Facts, scratch: str) -> Any:
    """The model in memory and nothing of its features."""
    from aarlab.testbed.models.cache import FeatureCache, ModelId
    from aarlab.testbed.models.lm import LanguageModel
    from aarlab.testbed.models.record import read_record

    folder = rows["root"].models / MODEL
    model = LanguageModel.load(folder)
    key = ModelId(MODEL, read_record(folder).key)
    return FeatureCache([], key, Path(scratch) / "features", lambda: model)


def _computed(rows: Facts, cache: Any, logp: bool) -> float:
    """Seconds of the states of both cuts, and where asked for both log-likelihoods."""
    begun = time.perf_counter()
    for split in SPLITS:
        cache.precompute(rows[split][0], (WEAK_LAYER, LAYER), logp=logp)
    return time.perf_counter() - begun


def _task(rows: Facts, seed: int) -> Facts:
    with tempfile.TemporaryDirectory() as scratch:
        return {"seconds": _computed(rows, _empty_cache(rows, scratch), logp=True)}


def _five_probes(rows: Facts, seed: int) -> Facts:
    with tempfile.TemporaryDirectory() as scratch:
        cache = _empty_cache(rows, scratch)
        prepared = _computed(rows, cache, logp=False)
        each = [_one_probe(rows, cache, SEEDS * seed + i) for i in range(SEEDS)]
    accuracy = float(np.mean([one["accuracy"] for one in each]))
    seconds = prepared + sum(one["seconds"] for one in each)
    return {"seconds": seconds, "prepare_s": prepared, "accuracy": accuracy}


def _probe(rows: Facts, seed: int) -> Facts:
    return _one_probe(rows, rows["cache"], seed)


def _one_probe(rows: Facts, cache: Any, seed: int) -> Facts:
    """Reading the states, training and predicting."""
    from threadpoolctl import threadpool_limits

    from aarlab.testbed.students.student import StudentFactory

    with threadpool_limits(1):
        return _timed(StudentFactory(cache, LAYER, rows["options"]), rows, seed)


def _block_factory(rows: Facts, cache: Any) -> Any:
    from aarlab.testbed.students.options import embedded_adapter
    from aarlab.testbed.students.student import StudentFactory

    adapter, options = embedded_adapter()
    return StudentFactory(cache, LAYER, options, adapter=adapter)


def _blocks(rows: Facts, seed: int) -> Facts:
    rows["cache"].language_model()
    return _one_tuned(rows, rows["cache"], seed)


def _cold_blocks(rows: Facts, seed: int) -> Facts:
    with tempfile.TemporaryDirectory() as scratch:
        return _one_tuned(rows, _empty_cache(rows, scratch), seed)


def _one_tuned(rows: Facts, cache: Any, seed: int) -> Facts:
    """Lower states read or computed, training and predicting."""
    factory, begun = _block_factory(rows, cache), time.perf_counter()
    lower = [factory.new().rows_of(rows[split][0]) for split in SPLITS]
    cache.states(rows["train"][0], LAYER)
    prepared = time.perf_counter() - begun
    tokens = EPOCHS * int(lower[0].lengths_N().sum())
    facts = _timed(factory, rows, seed)
    facts |= {"seconds": prepared + facts["seconds"], "prepare_s": prepared}
    return {**facts, "tokens_per_s": tokens / facts["fit_s"]}


def _timed(factory: Any, rows: Facts, seed: int) -> Facts:
    begun = time.perf_counter()
    options = factory.options.model_copy(update={"seed": seed})
    student = factory.new(options).fit(*rows["train"])
    fitted = time.perf_counter() - begun
    probs = student.predict_proba(rows["search"][0])
    seconds = time.perf_counter() - begun
    accuracy = float(((probs > 0.5) == rows["search"][1]).mean())
    return {"seconds": seconds, "fit_s": fitted, "accuracy": accuracy}


def _write(given: argparse.Namespace, found: list[Facts]) -> None:
    import torch

    named = {mode: [one for one in found if one["mode"] == mode] for mode in MODES}
    lines = [
        f"# Against Trainer + peft\n\n{datetime.now(UTC).date()}, {os.cpu_count()} cores "
        f"{platform.machine()}, torch {torch.__version__}, math rows of seed {given.task_seed}, "
        f"{given.rows} train rows, {given.search_rows} to predict, {EPOCHS} epochs, {len(found)} "
        "measurements, each a process of its own; median [all]. Trainer: LoRA r = 8 on all 21 "
        "blocks, batch 8 (with 32 it made too few steps to learn), lr 1e-3. `probe_5` is 5 seeds "
        "from nothing, `blocks_cold` one seed from nothing, `task` what a task build computes. "
        "Made by `benchmarks/peer.py`.\n",
        "| what | seconds | of it preparation | accuracy | tokens/s | peak MB |\n"
        "|---|---|---|---|---|---|",
    ]
    keys = ("seconds", "prepare_s", "accuracy", "tokens_per_s", "peak_mb")
    for mode, ones in named.items():
        if ones:
            lines.append(f"| {mode} | {' | '.join(_cell(ones, key) for key in keys)} |")
    if all(named[mode] for mode in MODES[:-1]):
        lines.append("\n" + _ratios(named))
    given.out.write_text("\n".join(lines) + "\n", encoding="utf-8")
    given.out.with_suffix(".json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def _cell(ones: list[Facts], key: str) -> str:
    values = [one[key] for one in ones if key in one]
    if not values:
        return ""
    show = (lambda v: f"{v:.3f}") if key == "accuracy" else (lambda v: f"{v:,.4g}")
    return f"{show(statistics.median(values))} [{', '.join(show(v) for v in values)}]"


def _ratios(named: dict[str, list[Facts]]) -> str:
    """Medians of the peer over medians of ours; its 5 seeds are 5 times one."""

    def median(mode: str) -> float:
        return statistics.median([one["seconds"] for one in named[mode]])

    peer = median("trainer")
    return (
        f"- 5 seeds of `probe`, all preparation counted: {5 * peer / median('probe_5'):.1f} times "
        "faster.\n"
        f"- Each further `probe`: {peer / median('probe'):.0f} times.\n"
        f"- `top_blocks`, lower states there: {peer / median('blocks'):.1f} times; from nothing "
        f"{peer / median('blocks_cold'):.1f} times."
    )


if __name__ == "__main__":
    main()
