"""Methods that train or ask the model for text (8, 23, 24), at a scale that two cores can carry.

All need the model to be available. The weak teacher gives labels, but no text and no judgement of a
text. So the judge of critic and debate is a head on lower states of the strong model, trained on
the weak labels: as weak as the labels, and able to read. The sources run these methods on large
models with GPUs. With the embedded 135M model the texts carry little, as the measured results say.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from aarlab.core.types import Example
from aarlab.testbed.methods.method import Method, plain_method
from aarlab.testbed.models.answers import QUESTIONS, AnswerItem, verdict_row
from aarlab.testbed.recipes.stages import Floats64, log_odds
from aarlab.testbed.running.contract import Predictor
from aarlab.testbed.students.options import AdapterOptions, GenerateOptions, LmOptions
from aarlab.testbed.students.student import Student, StudentFactory
from aarlab.testbed.students.teacher import Ints, cross_fit, fold_of_rows
from aarlab.testbed.tasks.train_task import TrainTask

NEW_TOKENS, GROUP, STEPS, STEP_ROWS = 32, 4, 4, 8
Bools = NDArray[np.bool_]
SIDES = ("The answer is right, because", "The answer is wrong, because")
PAIR_SIDES = ("Answer A is better, because", "Answer B is better, because")


def generative_finetuning(task: TrainTask, student: StudentFactory, seed: int) -> "OtherModel":
    """Train on the task's own texts as a language model first, then vanilla on the tuned model (8).

    Burns et al. 2023, section 4.4. LoRA on the three blocks below the student's layer, one epoch
    over all train answers, no labels. Known: helps when the concept becomes more salient.
    """
    from aarlab.testbed.models.cache import FeatureCache, ModelId
    from aarlab.testbed.models.generate import finetune_lm

    model = student.language_model()
    texts = [AnswerItem(e.prompt, a) for e in task.inputs for a in e.answers]
    adapter = AdapterOptions(rank=8, alpha=16.0)
    span = (max(student.layer - 3, 0), student.layer)
    with student.counted(rows_trained=len(texts)):
        tuned = finetune_lm(model, texts, LmOptions(span=span, adapter=adapter, seed=seed))
    source = FeatureCache([], ModelId("tuned", tuned.key), None, lambda: tuned)
    factory = replace(student, source=source)
    options = student.options.model_copy(update={"seed": seed})
    hard_N = (task.weak_labels_N > 0.5).astype(np.float64)
    return OtherModel(factory.new(options).fit(task.inputs, hard_N))


@dataclass(frozen=True, slots=True)
class OtherModel:
    """A student on the states of another model."""

    student: Student

    def predict_proba(self, inputs: Sequence[Example]) -> Floats64:
        return self.student.predict_proba(inputs)


def critic(task: TrainTask, student: StudentFactory, seed: int) -> Predictor:
    """Train a critic to move the weak judge toward the weak label; its critiques relabel (23).

    Saunders et al. arXiv 2206.05802, McAleese et al. arXiv 2407.00215; baseline of the study (50
    GRPO steps, 8 critiques, KL .02). Here there are 4 steps of 8 rows with 4 critiques each. The
    reward is the judge's gain in log-odds for the weak label. The advantage is its difference to
    the group's mean over its spread. There is one on-policy update per step, no KL term, and no
    supervised start, as there are no weak critiques. Labels: the judge's out-of-fold view of row
    and critique, averaged with the weak label.
    """
    model, judge = student.language_model(), judge_of(task, student, seed)
    rng = np.random.default_rng([seed, 23])
    from aarlab.testbed.models.generate import finetune_lm

    for step in range(STEPS):
        rows = rng.choice(len(task.inputs), min(STEP_ROWS, len(task.inputs)), replace=False)
        inputs = [task.inputs[i] for i in rows for _ in range(GROUP)]
        prompts = [critique_prompt(example) for example in inputs]
        texts = _written(model, prompts, seed * 1000 + step, 1.0)
        weak_N = np.repeat(task.weak_labels_N[rows] > 0.5, GROUP)
        advantages = group_advantages(gain(judge, inputs, texts, weak_N), GROUP)
        items = [AnswerItem(p, t) for p, t in zip(prompts, texts, strict=True)]
        options = LmOptions(epochs=1, batch=len(items), seed=seed)
        model = finetune_lm(model, items, options, advantages)
    texts = _written(model, [critique_prompt(example) for example in task.inputs], seed, 0.0)
    return relabelled(task, student, texts, seed)


def debate(task: TrainTask, student: StudentFactory, seed: int) -> Predictor:
    """Let two debaters argue, one for each label, one turn each; the weak judge relabels (24).

    arXiv 2501.13124. The strong model argues both sides. The judge's out-of-fold view of row and
    transcript is averaged with the weak label, and a student learns that.
    """
    prompts = debate_prompts(task)
    texts = _written(student.language_model(), prompts, seed, 0.0)
    return relabelled(task, student, transcripts(task, texts), seed)


def sides_of(task: TrainTask) -> tuple[str, str]:
    """Return how the two debaters begin: for label 1, and for label 0."""
    return PAIR_SIDES if task.kind == "preference" else SIDES


def debate_prompts(task: TrainTask) -> list[str]:
    """Return the prompts of all rows for the first debater, then for the second, (2 N)."""
    return [f"{_shown(example)}\n{side}" for side in sides_of(task) for example in task.inputs]


def transcripts(task: TrainTask, texts: Sequence[str]) -> list[str]:
    """Join what was said on each row, from the texts (2 N) that answer `debate_prompts`."""
    (first, second), n = sides_of(task), len(task.inputs)
    both = zip(texts[:n], texts[n:], strict=True)
    return [f"{first}{own}\n{second}{other}" for own, other in both]


def group_advantages(rewards_N: Floats64, group: int) -> list[float]:
    """Return (reward - group mean) / group spread; 0 where all of a group are alike."""
    grouped_GK = rewards_N.reshape(-1, group)
    spread_G1 = grouped_GK.std(axis=1, keepdims=True)
    centred_GK = grouped_GK - grouped_GK.mean(axis=1, keepdims=True)
    return [float(a) for a in (centred_GK / np.maximum(spread_G1, 1e-6)).ravel()]


def _written(model: object, prompts: Sequence[str], seed: int, temperature: float) -> list[str]:
    from aarlab.testbed.models.generate import generate
    from aarlab.testbed.models.lm import LanguageModel

    assert isinstance(model, LanguageModel)
    stop = ("\n\n", "<|im_end|>")
    options = GenerateOptions(max_new=NEW_TOKENS, temperature=temperature, stop=stop, seed=seed)
    return [text if text.strip() else " nothing" for text in generate(model, prompts, options)]


def _shown(example: Example) -> str:
    if len(example.answers) == 1:
        return f"{example.prompt}\nAnswer: {example.answers[0]}"
    return f"{example.prompt}\nA: {example.answers[0]}\nB: {example.answers[1]}"


def critique_prompt(example: Example) -> str:
    """Return what a critic is asked."""
    return f"{_shown(example)}\nPoint out what is wrong with it. Critique:"


def _read(example: Example, text: str) -> Example:
    """Return the row with a text, as a question to the judge."""
    question = f"Keep this in mind: {text.strip()}\n{QUESTIONS[0]}"
    return verdict_row(example, question)


def judge_of(task: TrainTask, student: StudentFactory, seed: int) -> Student:
    """Train a head on half-way states of the bare question on the weak labels."""
    rows = [verdict_row(example, QUESTIONS[0]) for example in task.inputs]
    options = student.options.model_copy(update={"seed": seed})
    return student.at(max(student.layer // 2, 1)).new(options).fit(rows, task.weak_labels_N)


def gain(
    judge: Student, inputs: Sequence[Example], texts: Sequence[str], weak_N: Bools
) -> Floats64:
    """Return how far each text moves the judge's log-odds toward the weak label, (N,)."""
    before = judge.predict_proba([verdict_row(example, QUESTIONS[0]) for example in inputs])
    after = judge.predict_proba([_read(e, t) for e, t in zip(inputs, texts, strict=True)])
    return np.where(weak_N, 1.0, -1.0) * (log_odds(after) - log_odds(before))


def relabelled(
    task: TrainTask, student: StudentFactory, texts: Sequence[str], seed: int
) -> Predictor:
    """Train a student on the mean of the weak labels and the judge's out-of-fold reading."""
    rows = [_read(example, text) for example, text in zip(task.inputs, texts, strict=True)]
    factory = student.at(max(student.layer // 2, 1))
    options = student.options.model_copy(update={"seed": seed})

    def fit_predict(train: Ints, held_out: Ints) -> Floats64:
        judge = factory.new(options).fit([rows[i] for i in train], task.weak_labels_N[train])
        return judge.predict_proba([rows[i] for i in held_out])

    read_N = cross_fit(fold_of_rows(task.groups, 2, seed), fit_predict)
    return student.new(options).fit(task.inputs, (task.weak_labels_N + read_N) / 2)


METHODS: tuple[Method, ...] = tuple(
    plain_method(fit, needs_model=True) for fit in (generative_finetuning, critic, debate)
)
