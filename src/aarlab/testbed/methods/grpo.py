"""The critic at the study's scale (23): GRPO by trl, texts by vLLM where it is installed on a GPU.

Needs `pip install 'aarlab[gpu]'`. `critic` in generation.py is the small one that needs neither.
Not covered: vLLM and a GPU were never at hand; the trl path is tested on a CPU with a tiny model.
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from aarlab.core.errors import MethodFailed
from aarlab.core.extras import installed
from aarlab.testbed.contract import Predictor
from aarlab.testbed.methods.generation import critique_prompt, gain, judge_of, relabelled
from aarlab.testbed.methods.method import Method, plain_method
from aarlab.testbed.options import GrpoOptions
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

WRITE_ROWS = 32


def critic_grpo(
    task: TrainTask, student: StudentFactory, seed: int, options: GrpoOptions | None = None
) -> Predictor:
    """A critic trained by GRPO to move the weak judge toward the weak label; it relabels (23).

    Saunders et al. arXiv 2206.05802, McAleese et al. arXiv 2407.00215; baseline of the study: 50
    steps, lr 1e-5, KL .02, 8 critiques a prompt, LoRA r = 32 here. Reward: the judge's gain in
    log-odds for the weak label. No supervised start, as there are no weak critiques. Known: below
    vanilla in the study on chat and code.
    """
    model, options = student.language_model(), options or GrpoOptions()
    if model.folder is None or not installed("trl"):
        raise MethodFailed("critic_grpo needs trl: pip install 'aarlab[gpu]'; critic does not")
    judge, template = judge_of(task, student, seed), model.record.template
    asked = [critique_prompt(example) for example in task.inputs]
    prompts = [template.opening + text + template.prompt_end for text in asked]
    weak_N = task.weak_labels_N > 0.5

    def reward(completions: Sequence[str], row: Sequence[int], **_: Any) -> list[float]:
        texts = [text if text.strip() else " nothing" for text in completions]
        gains_N = gain(judge, [task.inputs[i] for i in row], texts, weak_N[list(row)])
        return [float(value) for value in gains_N]

    with student.counted(rows_trained=options.steps * options.prompts):
        texts = _trained_texts(model.folder, prompts, reward, (options, seed))
    return relabelled(task, student, texts, seed)


def _trained_texts(
    folder: Path, prompts: Sequence[str], reward: Any, how: tuple[GrpoOptions, int]
) -> list[str]:
    """A critique of each prompt by the model after training; greedy."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl.trainer.grpo_config import GRPOConfig
    from trl.trainer.grpo_trainer import GRPOTrainer

    (options, seed), cuda = how, torch.cuda.is_available()
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, padding_side="left")
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    policy = AutoModelForCausalLM.from_pretrained(
        folder, local_files_only=True, dtype=torch.bfloat16 if cuda else torch.float32
    )
    order = np.random.default_rng([seed, 23]).permutation(len(prompts))
    rows = Dataset.from_list([{"prompt": prompts[i], "row": int(i)} for i in order])
    with tempfile.TemporaryDirectory() as scratch:
        config = GRPOConfig(
            scratch, max_steps=options.steps, learning_rate=options.lr, beta=options.kl,
            num_generations=options.generations, seed=seed, bf16=cuda, use_cpu=not cuda,
            per_device_train_batch_size=options.generations,
            gradient_accumulation_steps=options.prompts, max_completion_length=options.max_new,
            use_vllm=cuda and installed("vllm"), vllm_mode="colocate",
            save_strategy="no", logging_strategy="no", report_to=[], disable_tqdm=True,
        )  # fmt: skip
        lora = LoraConfig(
            r=options.rank, lora_alpha=options.rank, target_modules="all-linear",
            task_type="CAUSAL_LM",
        )  # fmt: skip
        trainer = GRPOTrainer(
            policy, reward, args=config, train_dataset=rows, processing_class=tokenizer,
            peft_config=lora,
        )  # fmt: skip
        trainer.train()
        return _written(trainer.model, tokenizer, prompts, options.max_new)


def _written(model: Any, tokenizer: Any, prompts: Sequence[str], max_new: int) -> list[str]:
    import torch

    texts = list[str]()
    for start in range(0, len(prompts), WRITE_ROWS):
        part = list(prompts[start : start + WRITE_ROWS])
        given = tokenizer(part, return_tensors="pt", padding=True, add_special_tokens=False)
        with torch.inference_mode():
            made = model.generate(
                **given.to(model.device), max_new_tokens=max_new, do_sample=False,
                pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        ends = made[:, given["input_ids"].shape[1] :]
        texts += tokenizer.batch_decode(ends, skip_special_tokens=True)
    return [text if text.strip() else " nothing" for text in texts]


METHODS: tuple[Method, ...] = (plain_method(critic_grpo, needs_model=True),)
