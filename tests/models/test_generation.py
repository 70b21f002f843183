"""Text from the decoder is what transformers writes; training and rewards do what they say."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import tiny_model

from aarlab.core.errors import BadInput, MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.methods import METHODS
from aarlab.testbed.methods.generation import (
    READ,
    gain,
    group_advantages,
    judge_of,
    transcript_template,
)
from aarlab.testbed.methods.grpo import _trained, critic_grpo, debate_grpo
from aarlab.testbed.methods.probes import asked
from aarlab.testbed.models.answers import QUESTIONS, AnswerItem, Wanted
from aarlab.testbed.models.cache import FeatureCache, ModelId
from aarlab.testbed.models.generate import finetune_lm, generate
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.students.features import StoredFeatures
from aarlab.testbed.students.generation import Texts
from aarlab.testbed.students.options import (
    AdapterOptions,
    GenerateOptions,
    GrpoOptions,
    HeadOptions,
    LmOptions,
)
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask

pytestmark = pytest.mark.gate

PROMPTS = ["What is the sum of 4 and 9?", "def total(xs):", "What does harbour mean? A sheltered"]


@pytest.fixture
def model(tiny):
    return LanguageModel.load(tiny, 1, torch.float32)


def greedy(model, text, n):
    """Token by token, each time from the whole text."""
    made = ids = model.token_ids(text)
    for _ in range(n):
        tokens = torch.tensor([made])
        positions = torch.arange(len(made))[None]
        state = [*model.decoder.upward(model.decoder.embedding_VD[tokens], model.decoder.blocks,
                                       positions, None)][-1]  # fmt: skip
        made = [*made, int(model.decoder.logits(state[0, -1:]).argmax())]
    return made[len(ids) :]


def options(**changes):
    return GenerateOptions(**{"max_new": 12, "stop": (), **changes})


def test_greedy_text_is_that_of_transformers(model):
    """Prompts of different lengths in one batch: padding must not matter."""
    original = tiny_model("llama").float()
    original.load_state_dict(
        {k: v.bfloat16().float() for k, v in original.state_dict().items()}
    )  # as converted
    written = generate(model, PROMPTS, options())
    for prompt, text in zip(PROMPTS, written, strict=True):
        (ids,) = model.prompt_tokens([prompt])
        made = list(ids)
        for _ in range(12):
            with torch.no_grad():
                logits = original(torch.tensor([made])).logits[0, -1]
            made.append(int(logits.argmax()))
        assert text == model.text(made[len(ids) :])


def test_sampling_repeats_with_its_seed_and_stops_at_a_string(model):
    one, two = (generate(model, PROMPTS, options(temperature=1.0, seed=1)) for _ in range(2))
    assert one == two != generate(model, PROMPTS, options(temperature=1.0, seed=2))
    long = generate(model, PROMPTS[:1], options())[0]
    stop = long[3:5]
    (short,) = generate(model, PROMPTS[:1], options(stop=(stop,)))
    assert short == long[: long.find(stop, 1)]
    with pytest.raises(BadInput, match="no room"):
        generate(model, PROMPTS, options(max_new=4096))


def test_finetuning_raises_what_it_is_shown_and_lowers_what_is_weighted_down(model):
    texts = [AnswerItem(p, " harbour harbour") for p in PROMPTS]
    lm = LmOptions(epochs=8, lr=1e-2, adapter=AdapterOptions(rank=4), span=(1, 3))

    def logp(made):
        found = made.features(texts, Wanted((), logp=True)).logp_I3
        return found[:, 0].mean()

    before = logp(model)
    assert logp(finetune_lm(model, texts, lm)) > before + 1
    assert logp(finetune_lm(model, texts, lm, [-1.0] * 3)) < before - 1
    assert logp(model) == before  # the given one stays as it was
    again = [finetune_lm(model, texts, lm) for _ in range(2)]
    assert logp(again[0]) == logp(again[1])
    with pytest.raises(BadInput, match="cannot train"):
        finetune_lm(model, [], lm)


def test_a_policy_gradient_step_raises_the_rewarded_text(model):
    texts = [AnswerItem("Say:", t) for t in (" harbour", " total", " sum", " xs")]
    rewards = np.array([1.0, 0.0, 0.0, 0.0])
    advantages = group_advantages(rewards, 4)
    assert sum(advantages) == pytest.approx(0, abs=1e-9) and advantages[0] > 1
    assert list(group_advantages(np.ones(4), 4)) == [0, 0, 0, 0]
    before = model.features(texts, Wanted((), logp=True)).logp_I3[:, 0]
    lm = LmOptions(epochs=3, batch=4, lr=1e-2, adapter=AdapterOptions(rank=4), span=(1, 3))
    tuned = finetune_lm(model, texts, lm, advantages)
    gain = tuned.features(texts, Wanted((), logp=True)).logp_I3[:, 0] - before
    assert gain[0] > max(gain[1:])


@pytest.mark.parametrize("name", ["generative_finetuning", "critic", "debate"])
@pytest.mark.parametrize("kind", ["verification", "preference"])
def test_each_method_runs_end_to_end_with_a_model(model, name, kind):
    rng = np.random.default_rng(0)
    answers = 2 if kind == "preference" else 1
    rows = tuple(
        Example(
            str(i),
            f"g{i // 2}",
            f"What is {i}?",
            tuple(f" sum {rng.integers(99)}" for _ in range(answers)),
        )
        for i in range(20)
    )
    weak = rng.uniform(0.1, 0.9, 20)
    task = TrainTask("t", kind, rows, weak, tuple(e.group for e in rows), {"train": 20}, weak[None])
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    student = StudentFactory(cache, 3, HeadOptions(epochs=3))
    probs = METHODS[name].fit(task, student, 0).predict_proba(rows)
    again = METHODS[name].fit(task, replace(student), 0).predict_proba(rows)
    assert probs.shape == (20,) and (probs == again).all() and probs.std() > 0


def few_rows(n=6):
    rows = tuple(Example(str(i), f"g{i // 2}", f"What is {i}?", (f" sum {i}",)) for i in range(n))
    weak = np.linspace(0.1, 0.9, n)
    return TrainTask("t", "verification", rows, weak, tuple(e.group for e in rows), {"train": n},
                     weak[None])  # fmt: skip


@pytest.mark.parametrize("small", ["critic", "debate"])
def test_what_needs_trl_says_so(model, monkeypatch, small):
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    student = StudentFactory(cache, 3, HeadOptions(epochs=3))
    monkeypatch.setattr("aarlab.testbed.methods.grpo.installed", lambda name: False)
    with pytest.raises(MethodFailed, match=rf"aarlab\[gpu\]'; {small} does not"):
        METHODS[f"{small}_grpo"].fit(few_rows(), student, 0)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of trl and transformers
@pytest.mark.parametrize("fit", [critic_grpo, debate_grpo])
def test_critic_and_debate_train_with_trl_on_a_cpu(model, fit):
    pytest.importorskip("trl")
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    student = StudentFactory(cache, 3, HeadOptions(epochs=3))
    options = GrpoOptions(steps=2, generations=2, prompts=1, max_new=8, rank=4, lr=1e-2)
    task = few_rows()
    probs = fit(task, student, 0, options).predict_proba(task.inputs)
    assert probs.shape == (6,) and np.isfinite(probs).all()
    assert student.compute.rows_trained >= 2


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of trl and transformers
def test_what_is_written_after_grpo_is_what_the_model_says(model):
    """A policy that did not move says what the model says, word by word."""
    pytest.importorskip("trl")
    how = GrpoOptions(steps=1, generations=2, prompts=1, max_new=8, rank=4, lr=1e-12)
    prompts = [f"{prompt}\n" for prompt in PROMPTS]
    written = _trained(model.folder, prompts, lambda completions, **_: [0.0] * 2, how, 0)
    assert written == [model.text(ids) for ids in (greedy(model, prompt, 8) for prompt in prompts)]


def test_a_debater_is_rewarded_for_winning_the_judge_for_its_own_side(model, monkeypatch):
    """Whatever the weak label says; the first N prompts are those of the side for label 1."""
    cache = FeatureCache([], ModelId("tiny", model.key), None, lambda: model)
    task, student = few_rows(), StudentFactory(cache, 3, HeadOptions(epochs=3))
    seen = {}

    def trained(folder, prompts, reward, options, seed):
        seen["prompts"], n = prompts, len(task.inputs)
        seen["rewards"] = [reward([" a sum"] * n, range(k * n, k * n + n)) for k in (0, 1)]
        return [f" text {i}" for i in range(2 * n)]

    monkeypatch.setattr("aarlab.testbed.methods.grpo._trained", trained)
    monkeypatch.setattr("aarlab.testbed.methods.grpo.installed", lambda name: True)
    monkeypatch.setattr("aarlab.testbed.methods.grpo.sides_of", lambda task: ("Say", "Say"))
    debate_grpo(task, student, 0)
    assert ["right, because" in p for p in seen["prompts"]] == [True] * 6 + [False] * 6
    for_it, against = (np.array(each) for each in seen["rewards"])
    judge, said = judge_of(task, student, 0), Texts((" Say a sum",) * 6)
    np.testing.assert_allclose(for_it, gain(student, judge, task.inputs, said, np.ones(6, bool)))
    np.testing.assert_allclose(for_it, -against)
    assert np.abs(for_it).max() > 0


def test_a_transcript_has_both_sides_of_its_own_row():
    task = few_rows(3)
    student = StudentFactory(StoredFeatures([]), 3)
    texts = [Texts(tuple(f" {side} {i}" for i in range(3))) for side in ("for", "against")]
    row = asked(student, task.inputs, transcript_template(task.kind), texts=texts)[1]
    said = "The answer is right, because for 1\nThe answer is wrong, because against 1"
    assert f"Keep this in mind: {said}\n{QUESTIONS[0]}" in row.prompt
    row = asked(student, task.inputs, READ, texts=texts[:1])[1]
    assert f"Keep this in mind: for 1\n{QUESTIONS[0]}" in row.prompt
