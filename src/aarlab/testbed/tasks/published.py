"""Published settings as one declaration each: pair, teacher, students, seeds."""

from collections.abc import Callable
from dataclasses import dataclass, replace

from aarlab.core.errors import NotFound
from aarlab.testbed.models.catalogue import Pair
from aarlab.testbed.students.options import (
    AdapterOptions,
    HeadOptions,
    TeacherOptions,
    published_adapter,
)
from aarlab.testbed.tasks.options import BuildOptions


@dataclass(frozen=True, slots=True)
class Setting:
    """A weak model fine-tuned on truth teaches a strong one; both are trained alike."""

    name: str
    title: str
    pair: str
    adapter: AdapterOptions
    training: HeadOptions
    first_seed: int
    seeds: int

    def build_options(self, pair: Pair, baseline_seeds: int) -> BuildOptions:
        """Return options with teachers and ceilings of `baseline_seeds` seeds.

        The first teachers label for methods, as many fresh ones for verification.
        """
        teacher = TeacherOptions(head=self.training, calibrate=False, adapter=self.adapter)
        return BuildOptions(
            pair=pair.name,
            weak_layer=pair.weak.layer,
            strong_layer=pair.strong.layer,
            teacher=teacher,
            student=self.training,
            adapter=self.adapter,
            n_public=min(self.seeds, baseline_seeds),
            n_fresh=min(self.seeds, baseline_seeds),
            n_weak=baseline_seeds,
            ceiling_seeds=baseline_seeds,
            seed=self.first_seed,
            certify=True,
            teacher_row_ceiling=False,
            require_gap=False,
        )


def qwen_paper() -> Setting:
    """Return the study's setting: Qwen1.5-0.5B-Chat -> Qwen3-4B-Base.

    LoRA r = 32 and alpha 32 on every block, lr 1e-4, 5 epochs, batch 32, linear schedule, seeds
    42-46, up to 8,192 tokens.
    """
    adapter, training = published_adapter()
    title = "Qwen1.5-0.5B-Chat -> Qwen3-4B-Base as published"
    return Setting("qwen-paper", title, "qwen-paper", adapter, training, 42, 5)


SETTINGS: dict[str, Callable[[], Setting]] = {"qwen-paper": qwen_paper}


def setting(name: str, epochs: int | None = None) -> Setting:
    """Return a published setting by name; `epochs` shortens a trial.

    Raises NotFound naming the settings there are.
    """
    if name not in SETTINGS:
        raise NotFound(f"no preset {name!r}; there are: {', '.join(SETTINGS)}")
    made = SETTINGS[name]()
    if epochs is None:
        return made
    return replace(made, training=made.training.model_copy(update={"epochs": epochs}))
