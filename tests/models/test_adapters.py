"""Students that train blocks: the update is LoRA's, they learn, repeat, and survive."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import WIDTH, tiny_model

from aarlab.core.errors import BadInput, Damaged, MethodFailed
from aarlab.core.types import Example
from aarlab.testbed.adapters.tuning import Rows, Tuner, fresh
from aarlab.testbed.methods import METHODS
from aarlab.testbed.models.cache import FeatureCache, ModelId
from aarlab.testbed.models.decoder import MATRICES, Decoder, LowRank, shape_of
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.token_states import RowStates
from aarlab.testbed.options import AdapterOptions, HeadOptions
from aarlab.testbed.stored_features import StoredFeatures, feature_arrays
from aarlab.testbed.student import StudentFactory
from aarlab.testbed.task import TrainTask

OPTIONS = HeadOptions(hidden=0, epochs=8, lr=1e-2, weight_decay=0.0, batch=8)
LAST = 3


@pytest.fixture
def model(tiny):
    return LanguageModel.load(tiny, 1, torch.float32)


def cache_of(model, store=None):
    return FeatureCache([], ModelId("tiny", model.key), store, lambda: model)


def factory(model, kind="top_blocks", store=None):
    adapter = AdapterOptions(kind=kind, blocks=1, rank=4, alpha=8.0)
    return StudentFactory(cache_of(model, store), LAST, OPTIONS, adapter=adapter)


def examples(n, answers=1, start=0):
    """Right answers hold the word that the wrong ones lack."""
    rng = np.random.default_rng(start)
    made, targets = [], rng.integers(2, size=n)
    for i, target in enumerate(targets):
        words = [f"the sum of {rng.integers(99)} and {rng.integers(99)}" for _ in range(answers)]
        texts = [w + (" harbour" if (target if k == 0 else 1 - target) else " total xs")
                 for k, w in enumerate(words)]  # fmt: skip
        made.append(Example(f"{start}-{i}", f"g{i // 2}", "What is " * (i % 3 + 1), tuple(texts)))
    return made, targets.astype(np.float64)


@pytest.mark.parametrize("kind", ["top_blocks", "lora", "full"])
@pytest.mark.parametrize("answers", [1, 2])
def test_a_student_learns_and_predicts_alike_alone_and_together(model, kind, answers):
    rows, targets = examples(48, answers)
    student = factory(model, kind).new().fit(rows, targets)
    test, truth = examples(24, answers, start=1)
    probs = student.predict_proba(test)
    assert ((probs > 0.5) == truth).mean() > 0.9
    assert student.predict_proba(test[3:4]) == pytest.approx(probs[3:4], abs=1e-5)
    if answers == 2:
        swapped = [replace(e, answers=e.answers[::-1]) for e in test]
        assert student.predict_proba(swapped) == pytest.approx(1 - probs, abs=1e-5)


def test_the_same_seed_gives_the_same_student_and_another_seed_another(model):
    rows, targets = examples(32)
    test, _ = examples(8, start=1)
    probs = [
        factory(model).new(OPTIONS.model_copy(update={"seed": seed})).fit(rows, targets)
        .predict_proba(test)
        for seed in (1, 1, 2)
    ]  # fmt: skip
    assert (probs[0] == probs[1]).all() and (probs[0] != probs[2]).any()


@pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
def test_the_update_is_that_of_peft():
    from peft import LoraConfig, get_peft_model

    original = tiny_model("llama").float()
    decoder = Decoder(shape_of(original.config.to_dict()), dict(original.state_dict()))
    names = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    wrapped = get_peft_model(
        original, LoraConfig(r=4, lora_alpha=8, target_modules=names, layers_to_transform=[2])
    ).eval()
    layer = wrapped.base_model.model.model.layers[2]
    modules = [*(getattr(layer.self_attn, n) for n in names[:4]),
               *(getattr(layer.mlp, n) for n in names[4:])]  # fmt: skip
    torch.manual_seed(0)
    for module in modules:
        torch.nn.init.normal_(module.lora_B["default"].weight, std=0.3)
    block, low = decoder.blocks[2], {}
    for name, part in zip(
        MATRICES, (modules[:3], modules[3:4], modules[4:6], modules[6:]), strict=True
    ):
        a, b = (torch.cat([getattr(m, x)["default"].weight.detach() for m in part])
                for x in ("lora_A", "lora_B"))  # fmt: skip
        weight = getattr(block, name)
        low[name] = LowRank(weight, a, b, 8 / 4, decoder.shape.joined(name, len(weight)))
    tokens = torch.randint(0, 300, (2, 11))
    with torch.no_grad():
        expected = wrapped(tokens, output_hidden_states=True).hidden_states
        steps = list(
            decoder.upward(expected[2], [replace(block, **low)], torch.arange(11)[None], None)
        )
        merged = replace(block, **{name: weight.merged() for name, weight in low.items()})
        plain = list(decoder.upward(expected[2], [merged], torch.arange(11)[None], None))
        normed = decoder._norm(steps[-1], decoder.final_norm_D)
    assert torch.allclose(normed, expected[3], atol=1e-4)
    assert torch.allclose(steps[-1], plain[-1], atol=1e-4)


def test_blocks_on_cached_lower_states_are_the_whole_model(model):
    """Untrained, a student's mean states above its blocks are the frozen features."""
    rows, _ = examples(6)
    made = factory(model)
    student = made.new()
    tuner = Tuner(model.decoder, fresh(model.decoder, (2, 3), made.adapter, 0), 4)
    means = torch.cat(list(tuner.means(student._rows(rows))))
    frozen = made.source.states(rows, LAST)[:, 0]
    # lower states are kept in bf16
    np.testing.assert_allclose(means.detach().numpy(), frozen, rtol=0.05, atol=0.05)


def test_lower_states_are_computed_once_and_read_from_disk(model, tmp_path, monkeypatch):
    rows, targets = examples(16)
    first = factory(model, store=tmp_path / "features")
    expected = first.new().fit(rows, targets).predict_proba(rows)
    monkeypatch.setattr(LanguageModel, "row_states", None)  # nothing may be computed again
    again = factory(model, store=tmp_path / "features").new().fit(rows, targets)
    assert (again.predict_proba(rows) == expected).all()
    (data,) = (tmp_path / "tokens").rglob("*.bin")
    data.write_bytes(data.read_bytes()[:-2] + b"\x00\x01")
    with pytest.raises(Damaged, match="sha256"):
        factory(model, store=tmp_path / "features").new().fit(rows, targets)


def test_a_long_row_loses_the_start_of_its_prompt_and_keeps_its_answer(model):
    long = Example("1", "g", "What " * 400, (" harbour",))
    (row,) = factory(model).new()._rows([long]).states_M
    context = model.record.context
    answer_tokens = len(model.token_ids(" harbour"))
    assert len(row.bits_TD) == context and row.n_prompt == context - answer_tokens


@pytest.mark.parametrize("often", [1, 99])
def test_out_of_memory_halves_the_rows_once_and_then_says_what_to_lower(model, monkeypatch, often):
    calls, plain = [], Tuner.logits

    def hungry(self, rows, chosen):
        calls.append(len(chosen))
        if len(calls) <= often:
            raise torch.OutOfMemoryError("no")
        return plain(self, rows, chosen)

    monkeypatch.setattr(Tuner, "logits", hungry)
    rows, targets = examples(16)
    student = factory(model).new()
    if often == 1:
        student.fit(rows, targets)
        assert calls[:3] == [8, 4, 4]
        return
    with pytest.raises(BadInput, match="lower the student's batch"):
        student.fit(rows, targets)
    assert calls == [8, 4]


def test_going_on_starts_from_what_was_learned(model):
    rows, targets = examples(32)
    student = factory(model).new().fit(rows, targets)
    before = student.predict_proba(rows)
    slow = OPTIONS.model_copy(update={"lr": 1e-6, "epochs": 1})
    student.go_on(rows, targets, options=slow)
    assert student.predict_proba(rows) == pytest.approx(before, abs=0.02)


def test_recipes_and_losses_run_on_blocks(model):
    rows, targets = examples(40)
    labels = np.where(targets > 0, 0.8, 0.2)
    task = TrainTask("t", "verification", tuple(rows), labels, tuple(e.group for e in rows),
                     {"train": 40}, labels[None])  # fmt: skip
    for name in ("aux_confidence", "mdl_curriculum", "overlap_density"):
        predictor = METHODS[name].fit(task, factory(model), 0)
        assert ((predictor.predict_proba(rows) > 0.5) == targets).mean() > 0.8, name


def test_without_the_model_a_run_says_so(model):
    rows, targets = examples(4)
    stored = StoredFeatures([feature_arrays(cache_of(model), rows, [LAST])])
    made = StudentFactory(stored, LAST, OPTIONS, adapter=AdapterOptions())
    with pytest.raises(MethodFailed, match="stored features only"):
        made.new().fit(rows, targets)


def test_gradients_reach_what_is_trained_and_nothing_else(model):
    made = fresh(model.decoder, (2, 3), AdapterOptions(rank=2), 0)
    for weight in made.trained():
        torch.nn.init.normal_(weight, std=0.1)
    bits = np.random.default_rng(0).integers(0, 2**14, (5, WIDTH)).astype(np.uint16)
    tuner, rows = Tuner(model.decoder, made, 1), Rows([RowStates(bits, 2)], 1)
    tuner.logits(rows, np.array([0])).sum().backward()
    assert all(weight.grad.abs().sum() > 0 for weight in made.trained())
    probe, step = made.blocks[0].down.b_OR, 1e-2
    with torch.no_grad():
        slopes = []
        for sign in (1, -1):
            probe[3, 1] += sign * step
            slopes.append(float(tuner.logits(rows, np.array([0]))))
            probe[3, 1] -= sign * step
    assert probe.grad[3, 1] == pytest.approx(
        (slopes[0] - slopes[1]) / (2 * step), rel=0.02, abs=1e-4
    )
    assert all(
        not w.requires_grad for w in (model.decoder.embedding_VD, model.decoder.blocks[2].out)
    )


def test_a_probe_starts_without_torch():
    code = (
        "import sys, numpy as np; from aarlab.testbed.toy import make_toy\n"
        "toy = make_toy('verification'); s = toy.student().new()\n"
        "s.fit(toy.task.inputs, toy.task.weak_labels_N); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
