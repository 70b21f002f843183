"""Critic and debate at the study's scale (23, 24): GRPO by trl, with texts by vLLM on a GPU.

Needs `pip install 'aarlab[gpu]'`; vLLM comes with `aarlab[vllm]`. `critic` and `debate` in
generation.py are small and need neither.

Not covered: vLLM and a GPU were never available; trl runs on a CPU, see benchmarks/generation.md.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aarlab.core.errors import MethodFailed
from aarlab.core.extras import installed
from aarlab.core.types import Example
from aarlab.testbed.methods.generation import (
    READ,
    critique_template,
    debate_templates,
    gain,
    judge_of,
    relabelled,
    sides_of,
    transcript_template,
)
from aarlab.testbed.methods.method import Method, plain_method
from aarlab.testbed.running.contract import Predictor
from aarlab.testbed.students.generation import BLANK, Texts
from aarlab.testbed.students.options import GrpoOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask

WRITE_ROWS = 32


def critic_grpo(
    task: TrainTask, student: StudentFactory, seed: int, options: GrpoOptions | None = None
) -> Predictor:
    """Train a critic by GRPO to move the weak judge toward the weak label; it relabels (23).

    Saunders et al. arXiv 2206.05802, McAleese et al. arXiv 2407.00215; baseline of the study: 50
    steps, lr 1e-5, KL .02, 8 critiques per prompt, LoRA r = 32 here. Reward: the judge's gain in
    log-odds for the weak label. No supervised start, as there are no weak critiques. Known: below
    vanilla in the study on chat and code.
    """
    folder = _folder(student, "critic")
    judge, weak_N = judge_of(task, student, seed), task.weak_labels_N > 0.5

    def reward(completions: Sequence[str], row: Sequence[int], **_: Any) -> list[float]:
        inputs = [task.inputs[i] for i in row]
        gains_N = gain(student, judge, inputs, _said(completions), weak_N[list(row)])
        return [float(value) for value in gains_N]

    asked = student.ask(task.inputs, critique_template(task.kind))
    texts = _trained_texts(folder, student, asked, reward, options or GrpoOptions(), seed)
    return relabelled(task, student, READ, [_said(texts)], seed)


def debate_grpo(
    task: TrainTask, student: StudentFactory, seed: int, options: GrpoOptions | None = None
) -> Predictor:
    """Train two debaters by GRPO, each to win the weak judge for its side; it relabels (24).

    arXiv 2501.13124, whose debaters are not trained. The reward is that of self-play: the judge's
    gain in log-odds for the side that speaks, whatever the weak label. One policy speaks for both
    sides, one turn each, with the steps of `critic_grpo`. The judge learned the weak labels.
    """
    folder = _folder(student, "debate")
    judge, sides, n = judge_of(task, student, seed), sides_of(task.kind), len(task.inputs)

    def reward(completions: Sequence[str], row: Sequence[int], **_: Any) -> list[float]:
        inputs = [task.inputs[i % n] for i in row]
        said = zip(row, _said(completions).texts, strict=True)
        texts = Texts(tuple(f" {sides[i // n]}{text}" for i, text in said))
        gains_N = gain(student, judge, inputs, texts, np.array(row) < n)
        return [float(value) for value in gains_N]

    asked = [row for side in debate_templates(task.kind) for row in student.ask(task.inputs, side)]
    said = _trained_texts(folder, student, asked, reward, options or GrpoOptions(), seed)
    texts = [_said(said[:n]), _said(said[n:])]
    return relabelled(task, student, transcript_template(task.kind), texts, seed)


def _folder(student: StudentFactory, small: str) -> Path:
    """Return the folder of the strong model's weights; MethodFailed where trl cannot train them."""
    folder: Path | None = student.language_model().folder
    if folder is None or not installed("trl"):
        raise MethodFailed(f"{small}_grpo needs trl: pip install 'aarlab[gpu]'; {small} does not")
    return folder


def _said(completions: Sequence[str]) -> Texts:
    return Texts(tuple(text if text.strip() else BLANK for text in completions))


def _trained_texts(
    folder: Path,
    student: StudentFactory,
    asked: Sequence[Example],
    reward: Any,
    options: GrpoOptions,
    seed: int,
) -> list[str]:
    """Train the model and return its greedy text for the prompt of each row.

    `row` of a reward is the prompt's number.
    """
    template = student.language_model().record.template
    prompts = [template.opening + row.prompt + template.prompt_end for row in asked]
    with student.counted(rows_trained=options.steps * options.prompts):
        return _trained(folder, prompts, reward, options, seed)


def _trained(
    folder: Path, prompts: Sequence[str], reward: Any, options: GrpoOptions, seed: int
) -> list[str]:
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    cuda = torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    policy = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.bfloat16 if cuda else torch.float32
    )
    order = np.random.default_rng([seed, 23]).permutation(len(prompts))
    rows = Dataset.from_list([{"prompt": prompts[i], "row": int(i)} for i in order])
    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            scratch,
            max_steps=options.steps,
            learning_rate=options.lr,
            beta=options.kl,
            num_generations=options.generations,
            seed=seed,
            bf16=cuda,
            use_cpu=not cuda,
            per_device_train_batch_size=options.generations,
            gradient_accumulation_steps=options.prompts,
            max_completion_length=options.max_new,
            use_vllm=cuda and installed("vllm"),
            vllm_mode="colocate",
            save_strategy="no",
            logging_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        lora = LoraConfig(
            r=options.rank,
            lora_alpha=options.rank,
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        )
        trainer = GRPOTrainer(
            policy,
            reward,
            args=config,
            train_dataset=rows,
            processing_class=tokenizer,
            peft_config=lora,
        )
        trainer.train()
        return _written(trainer.model, tokenizer, prompts, options.max_new)


def _written(model: Any, tokenizer: Any, prompts: Sequence[str], max_new: int) -> list[str]:
    import torch

    texts = list[str]()
    model.eval()  # with checkpointing on, a model in training drops its keys and sees one token
    for start in range(0, len(prompts), WRITE_ROWS):
        part = list(prompts[start : start + WRITE_ROWS])
        given = tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                **given.to(model.device),
                max_new_tokens=max_new,
                do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )
        ends = made[:, given["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(ends, skip_special_tokens=True)
    return list(_said(texts).texts)


METHODS: tuple[Method, ...] = tuple(
    plain_method(fit, holds_model=True) for fit in (critic_grpo, debate_grpo)
)
