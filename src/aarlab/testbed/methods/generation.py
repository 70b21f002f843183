"""Methods that train or ask the model for text (8, 23, 24), at a scale that two cores can carry.

All need the model to be available. Texts are templates and handles: none is read here. The weak
teacher gives labels, but no text and no judgement of a text. So the judge of critic and debate is a
head on lower states of the strong model, trained on the weak labels: as weak as the labels, and
able to read. The sources run these methods on large models with GPUs. With the embedded 135M model
the texts carry little, as the measured results say.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from aarlab.core.errors import MethodFailed, NotFound
from aarlab.core.types import Example, TaskKind
from aarlab.testbed.methods.method import Method, plain_method
from aarlab.testbed.methods.probes import NEEDS_MODEL, asked
from aarlab.testbed.models.answers import QUESTIONS
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


def generative_finetuning(task: TrainTask, student: StudentFactory, seed: int) -> Student:
    """Train on the task's own texts as a language model first, then vanilla on the tuned model (8).

    Burns et al. 2023, section 4.4. LoRA on the three blocks below the student's layer, one epoch
    over all train answers, no labels. Known: helps when the concept becomes more salient.
    """
    adapter = AdapterOptions(rank=8, alpha=16.0)
    span = (max(student.layer - 3, 0), student.layer)
    factory = student.tuned(task.inputs, LmOptions(span=span, adapter=adapter, seed=seed))
    options = student.options.model_copy(update={"seed": seed})
    hard_N = (task.weak_labels_N > 0.5).astype(np.float64)
    return factory.new(options).fit(task.inputs, hard_N)


def critic(task: TrainTask, student: StudentFactory, seed: int) -> Predictor:
    """Train a critic to move the weak judge toward the weak label; its critiques relabel (23).

    Saunders et al. arXiv 2206.05802, McAleese et al. arXiv 2407.00215; baseline of the study (50
    GRPO steps, 8 critiques, KL .02). Here there are 4 steps of 8 rows with 4 critiques each. The
    reward is the judge's gain in log-odds for the weak label. The advantage is its difference to
    the group's mean over its spread. There is one on-policy update per step, no KL term, and no
    supervised start, as there are no weak critiques. Labels: the judge's out-of-fold view of row
    and critique, averaged with the weak label.
    """
    author, judge = student, judge_of(task, student, seed)
    rng = np.random.default_rng([seed, 23])
    asks = critique_template(task.kind)
    for step in range(STEPS):
        rows = rng.choice(len(task.inputs), min(STEP_ROWS, len(task.inputs)), replace=False)
        inputs = [task.inputs[i] for i in rows for _ in range(GROUP)]
        texts = _written(author, inputs, asks, seed * 1000 + step, 1.0)
        weak_N = np.repeat(task.weak_labels_N[rows] > 0.5, GROUP)
        advantages = group_advantages(gain(student, judge, inputs, texts, weak_N), GROUP)
        options = LmOptions(epochs=1, batch=len(inputs), seed=seed)
        author = author.tuned(student.ask(inputs, asks), options, texts, advantages)
    texts = _written(author, task.inputs, asks, seed, 0.0)
    return relabelled(task, student, READ, [texts], seed)


def debate(task: TrainTask, student: StudentFactory, seed: int) -> Predictor:
    """Let two debaters argue, one for each label, one turn each; the weak judge relabels (24).

    arXiv 2501.13124. The strong model argues both sides. The judge's out-of-fold view of row and
    transcript is averaged with the weak label, and a student learns that.
    """
    texts = [
        _written(student, task.inputs, template, seed, 0.0)
        for template in debate_templates(task.kind)
    ]
    return relabelled(task, student, transcript_template(task.kind), texts, seed)


def sides_of(kind: TaskKind) -> tuple[str, str]:
    """Return how the two debaters begin: for label 1, and for label 0."""
    return PAIR_SIDES if kind == "preference" else SIDES


def debate_templates(kind: TaskKind) -> list[str]:
    """Return what the two debaters are asked: for label 1, and for label 0."""
    return [f"{_shown(kind)}\n{side}" for side in sides_of(kind)]


def transcript_template(kind: TaskKind) -> str:
    """Return what the judge reads of a debate: what was said is `{text}` and `{text2}`."""
    first, second = sides_of(kind)
    return f"Keep this in mind: {first}{{text}}\n{second}{{text2}}\n{QUESTIONS[0]}"


def group_advantages(rewards_N: Floats64, group: int) -> Floats64:
    """Return (reward - group mean) / group spread; 0 where all of a group are alike."""
    grouped_GK = rewards_N.reshape(-1, group)
    spread_G1 = grouped_GK.std(axis=1, keepdims=True)
    centred_GK = grouped_GK - grouped_GK.mean(axis=1, keepdims=True)
    return np.asarray((centred_GK / np.maximum(spread_G1, 1e-6)).ravel())


def _written(
    author: StudentFactory,
    inputs: Sequence[Example],
    template: str,
    seed: int,
    temperature: float,
) -> Any:
    """Return one text for each row."""
    stop = ("\n\n", "<|im_end|>")
    options = GenerateOptions(max_new=NEW_TOKENS, temperature=temperature, stop=stop, seed=seed)
    return author.generate(inputs, template, 1, options)[0]


def _shown(kind: TaskKind) -> str:
    if kind == "verification":
        return "{prompt}\nAnswer: {answer}"
    return "{prompt}\nA: {first}\nB: {second}"


def critique_template(kind: TaskKind) -> str:
    """Return what a critic is asked."""
    return f"{_shown(kind)}\nPoint out what is wrong with it. Critique:"


READ = f"Keep this in mind:{{text}}\n{QUESTIONS[0]}"  # a text begins with a space


def judge_of(task: TrainTask, student: StudentFactory, seed: int) -> Student:
    """Train a head on half-way states of the bare question on the weak labels.

    Raises MethodFailed without the model.
    """
    options = student.options.model_copy(update={"seed": seed})
    judge = student.at(max(student.layer // 2, 1)).new(options)
    try:
        return judge.fit(asked(student, task.inputs, QUESTIONS[0]), task.weak_labels_N)
    except NotFound as error:
        raise MethodFailed(NEEDS_MODEL) from error


def gain(
    student: StudentFactory, judge: Student, inputs: Sequence[Example], texts: Any, weak_N: Bools
) -> Floats64:
    """Return how far each text moves the judge's log-odds toward the weak label, (N,)."""
    before = judge.predict_proba(asked(student, inputs, QUESTIONS[0]))
    after = judge.predict_proba(asked(student, inputs, READ, texts=[texts]))
    return np.where(weak_N, 1.0, -1.0) * (log_odds(after) - log_odds(before))


def relabelled(
    task: TrainTask, student: StudentFactory, reads: str, texts: Sequence[Any], seed: int
) -> Predictor:
    """Train a student on the mean of the weak labels and the judge's out-of-fold reading.

    `reads` is what the judge is asked about a row and the texts.
    """
    rows = asked(student, task.inputs, reads, texts=texts)
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
