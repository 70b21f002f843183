"""`on_other_device.py LIBRARY MODEL`: do a model's work on another device and on the CPU.

Prints a JSON object: for each kind of work an empty text if both gave the same, but for the order
of sums, else what went wrong. A process of its own: PyTorch keeps a device once it is registered.
"""

import json
import sys
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from tiny_task import word_rows

from aarlab.testbed.models.answers import AnswerItem
from aarlab.testbed.models.cache import FeatureCache
from aarlab.testbed.models.compute import Compute
from aarlab.testbed.models.generate import finetune_lm, generate
from aarlab.testbed.models.lm import LanguageModel, Wanted
from aarlab.testbed.students.options import AdapterOptions, GenerateOptions, HeadOptions, LmOptions
from aarlab.testbed.students.student import StudentFactory

NAME = "card"
CLOSE = {"rtol": 2.0**-7, "atol": 1e-3}  # a step of bfloat16, in which some states are kept
LAYER = 3
ROWS, TARGETS = word_rows(16, "train")
PAIRS, PAIR_TARGETS = word_rows(16, "train", answers=2)
TRAINING = HeadOptions(hidden=0, epochs=2, lr=2e-2, weight_decay=0.01, batch=8)
PROMPTS = ["What is the sum of 4 and 9?", "def total(xs):", "What does harbour mean?"]
TEXTS = [AnswerItem("Say:", text) for text in (" harbour", " total xs", " the sum of 4")]


def register(library: Path) -> None:
    torch.utils.rename_privateuse1_backend(NAME)
    known: dict[str, Callable[..., Any]] = {
        "is_available": lambda: True,
        "is_initialized": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "manual_seed_all": lambda seed: None,
        "get_amp_supported_dtype": lambda: [torch.bfloat16],
    }
    torch._register_device_module(NAME, SimpleNamespace(**known))
    torch.ops.load_library(library)
    torch.utils.generate_methods_for_privateuse1_backend()


@dataclass
class Work:
    """The same model on one device."""

    folder: Path
    compute: Compute

    def model(self) -> LanguageModel:
        return LanguageModel.load(self.folder, 1, compute=self.compute)

    def students(self, adapter: AdapterOptions | None) -> StudentFactory:
        model = self.model()
        cache = FeatureCache([], self.compute.model_id(model.record), None, lambda: model)
        return StudentFactory(cache, LAYER, TRAINING, adapter=adapter)

    def features(self) -> list[Any]:
        found = self.model().features(TEXTS, Wanted((0, 1, LAYER), logp=True))
        return [found.states_LID, found.logp_I3]

    def states_of_tokens(self) -> list[Any]:
        rows = self.model().row_states(TEXTS, 1)
        return [(row.bits_TD.astype(np.uint32) << 16).view(np.float32) for row in rows]

    def log_probabilities(self) -> list[Any]:
        return [self.model().next_token_logp("the sum of 4"), self.model().embeddings()]

    def greedy_texts(self) -> list[Any]:
        return list(generate(self.model(), PROMPTS, GenerateOptions(max_new=6, stop=())))

    def sampled_texts(self) -> list[Any]:
        options = GenerateOptions(max_new=6, stop=("xs",), temperature=1.0, seed=5)
        return list(generate(self.model(), PROMPTS, options))

    def finetuning_on_texts(self) -> list[Any]:
        lm = LmOptions(epochs=1, batch=2, lr=1e-2, adapter=AdapterOptions(rank=4), span=(1, 3))
        tuned = finetune_lm(self.model(), TEXTS, lm, [1.0, -0.5, 0.5])
        return [tuned.features(TEXTS, Wanted((LAYER,), logp=True)).logp_I3]

    def heads(self) -> list[Any]:
        return self._student(None)

    def top_blocks(self) -> list[Any]:
        return self._student(AdapterOptions(kind="top_blocks", blocks=2, rank=4))

    def lora(self) -> list[Any]:
        return self._student(AdapterOptions(kind="lora", rank=4))

    def lora_read_by_labels(self) -> list[Any]:
        return self._student(AdapterOptions(kind="lora", rank=4, readout="labels"))

    def all_weights(self) -> list[Any]:
        return self._student(AdapterOptions(kind="full"))

    def checkpoints_of_blocks(self) -> list[Any]:
        self.compute = replace(self.compute, checkpoint="block")
        return self._student(AdapterOptions(kind="lora", rank=4))

    def trainer(self) -> list[Any]:
        students = self.students(AdapterOptions(kind="lora", rank=4))
        trainer, found = students.trainer(ROWS), []
        saved = trainer.save()
        for number in range(2):
            found.append(trainer.forward(ROWS))
            trainer.backward((found[-1] - TARGETS).astype(np.float32))
            trainer.step(1e-2)
            trainer.perturb(number, 0.01)
        trainer.restore(saved)
        return [*found, trainer.forward(ROWS), *trainer.save()[0]]

    def _student(self, adapter: AdapterOptions | None) -> list[Any]:
        students, found = self.students(adapter), []
        for rows, targets in ((ROWS, TARGETS), (PAIRS, PAIR_TARGETS)):
            student = students.new().fit(rows, targets)
            found.append(student.predict_proba(rows))
            found.append(student.go_on(rows, targets).predict_proba(rows))
        return found


KINDS = [name for name in vars(Work) if name[0] != "_" and name not in ("model", "students")]
KINDS = [name for name in KINDS if callable(getattr(Work, name))]


def compared(folder: Path, kind: str) -> str:
    """Return what is wrong, or an empty text."""
    try:
        here, there = (
            getattr(Work(folder, Compute(device, "float32")), kind)()  # type: ignore[arg-type]
            for device in ("cpu", NAME)
        )
    except Exception:  # noqa: BLE001 (whatever it is, it is told)
        return traceback.format_exc()[-3000:]
    if len(here) != len(there) or not here:
        return f"{len(here)} results on the CPU, {len(there)} on the other device"
    for number, (one, other) in enumerate(zip(here, there, strict=True)):
        same = one == other if isinstance(one, str) else np.allclose(one, other, **CLOSE)
        if not same:
            return f"result {number} differs: {one!r}, {other!r}"[:3000]
    return ""


def refused() -> str:
    """Return an empty text if the device refuses what CUDA refuses."""
    here, there = torch.ones(3), torch.ones(3).to(NAME)
    try:
        _ = here + there
    except RuntimeError as error:
        if "same device" not in str(error):
            return f"another error than CUDA's: {error}"
    else:
        return "tensors of two devices were added"
    try:
        there.numpy()
    except TypeError:
        return ""
    return "numpy read the device's memory"


def main() -> None:
    register(Path(sys.argv[1]))
    found = {"refused": refused()}
    for kind in KINDS:
        found[kind] = compared(Path(sys.argv[2]), kind)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
