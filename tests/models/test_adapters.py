"""Students that train blocks: the update is LoRA's, they learn, repeat, and survive."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from tiny_models import WIDTH, tiny_entry, tiny_model

from aarlab.core.errors import BadInput, Damaged, MethodFailed
from aarlab.core.layout import DataRoot
from aarlab.core.types import Example
from aarlab.testbed.methods import METHODS
from aarlab.testbed.models.answers import QUESTIONS, verdict_row
from aarlab.testbed.models.cache import FeatureCache, ModelId
from aarlab.testbed.models.catalogue import FolderSource
from aarlab.testbed.models.decoder import MATRICES, Decoder, shape_of
from aarlab.testbed.models.lm import LanguageModel
from aarlab.testbed.models.low_rank import LowRank
from aarlab.testbed.models.pull import pull_entry
from aarlab.testbed.models.token_states import RowStates
from aarlab.testbed.students.adapters import packing
from aarlab.testbed.students.adapters.packing import Forward, Pack, Rows
from aarlab.testbed.students.adapters.tuning import (
    Tuned,
    Tuner,
    fresh_blocks,
    mean_readout,
    trained_weights,
)
from aarlab.testbed.students.features import StoredFeatures, feature_arrays
from aarlab.testbed.students.options import AdapterOptions, HeadOptions
from aarlab.testbed.students.student import StudentFactory
from aarlab.testbed.tasks.train_task import TrainTask

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
    blocks = fresh_blocks(model.decoder, (2, 3), made.adapter, 0)
    lower = student.rows_of(rows)
    pack = Pack(lower, range(len(rows)), model.decoder)
    means = pack.means(Forward(model.decoder, model.compute).kept_states(blocks, pack))
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
    made = factory(model)
    rows = made.new().rows_of([long])
    (row,) = rows.lower_M
    assert rows.n_cut == made.compute.rows_cut == len(made.source.cut_rows) == 1
    context = model.record.context
    answer_tokens = len(model.token_ids(" harbour"))
    assert len(row.bits_TD) == context and row.n_prompt == context - answer_tokens


@pytest.mark.parametrize("often", [1, 99])
def test_out_of_memory_halves_the_rows_once_and_then_says_what_to_lower(model, monkeypatch, often):
    calls, plain = [], Tuner.logits

    def hungry(self, rows, chosen):
        calls.append(self.tokens)
        if len(calls) <= often:
            raise torch.OutOfMemoryError("no")
        return plain(self, rows, chosen)

    monkeypatch.setattr(Tuner, "logits", hungry)
    rows, targets = examples(16)
    model.compute = replace(model.compute, train_tokens=100)
    student = factory(model).new()
    if often == 1:
        student.fit(rows, targets)
        assert calls[0] == 100 and set(calls[1:-1]) == {50}
        return
    with pytest.raises(BadInput, match="AARLAB_TRAIN_TOKENS"):
        student.fit(rows, targets)
    assert sorted(set(calls)) == [50, 100]


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
    blocks = fresh_blocks(model.decoder, (1, 3), AdapterOptions(rank=2), 0)
    made = Tuned(blocks, mean_readout(model.decoder, np.eye(3, WIDTH, dtype=np.float32)))
    for weight in made.trained():
        torch.nn.init.normal_(weight, std=0.1)
    bits = np.random.default_rng(0).integers(0, 2**14, (9, WIDTH)).astype(np.uint16)
    rows = Rows([RowStates(bits, 2), RowStates(bits[:6], 2)], 2, ["one", "one"])
    tuner = Tuner(model.decoder, made, model.compute)
    tuner.logits(rows, np.array([0])).sum().backward()
    moved = [w for w in made.trained() if w is not made.readout.bias]  # a difference has none
    assert all(weight.grad.abs().sum() > 0 for weight in moved)
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
        "import sys, numpy as np; from aarlab.testbed.running.checking import make_toy\n"
        "toy = make_toy('verification'); s = toy.student().new()\n"
        "s.fit(toy.task.inputs, toy.task.weak_labels_N); assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def reference_logits(model, blocks, readout, rows):
    """Row by row through the plain decoder, without packing, sharing or threads."""
    scores = []
    for lower in rows.lower_M:
        state = model.decoder.embedding_VD[torch.from_numpy(lower.ids_T.astype(np.int64))][None]
        positions = torch.arange(lower.n_tokens)[None]
        state = [*model.decoder.upward(state, blocks, positions, None)][-1]
        scores.append(readout.scores(state[:, lower.n_prompt :].float().mean(dim=1))[0])
    return torch.stack(scores).view(-1, rows.answers) @ torch.tensor([1.0, -1.0][: rows.answers])


@pytest.mark.parametrize("family", ["llama", "qwen2", "qwen3"])
@pytest.mark.parametrize("how", [{}, {"checkpoint": "mlp"}, {"checkpoint": "block"}])
def test_packed_rows_that_share_prompts_have_the_gradients_of_single_rows(
    family, how, tiny_folders, tmp_path
):
    folder = pull_entry(tiny_entry(FolderSource(tiny_folders[family])), DataRoot(tmp_path))
    model = LanguageModel.load(folder, 2, torch.float32)
    model.compute = replace(model.compute, **how)
    rows = factory(model, "lora").new().rows_of(examples(6, answers=2)[0])
    assert len(set(rows.prompts_M)) == 3  # shared by answers and by rows
    blocks = fresh_blocks(model.decoder, (0, 3), AdapterOptions(kind="lora", rank=4), 0)
    readout = mean_readout(model.decoder, np.eye(3, WIDTH, dtype=np.float32))
    tuned = Tuned(blocks, readout)
    torch.manual_seed(0)
    for weight in tuned.trained():
        torch.nn.init.normal_(weight, std=0.2)
    expected = reference_logits(model, blocks, readout, rows)
    slopes = torch.linspace(-1, 1, len(rows))
    grads = torch.autograd.grad(expected, tuned.trained(), slopes)
    tuner = Tuner(model.decoder, tuned, model.compute, 2)
    found = tuner.logits(rows, np.arange(len(rows)))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for one, other in zip(torch.autograd.grad(found, tuned.trained(), slopes), grads, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-3, atol=1e-3 * float(other.detach().abs().max())
        )


def ragged_reference(q, k, v, q_ends, k_ends, longest_q, longest_k, **more):
    """What the CUDA kernel computes: row by row, causal from the last token back."""
    assert more == {"window_size": (-1, 0), "enable_gqa": True}
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    made = []
    for i in range(len(q_ends) - 1):
        rows, keys = slice(*q_ends[i : i + 2].tolist()), slice(*k_ends[i : i + 2].tolist())
        one, n = q[rows], keys.stop - keys.start
        assert len(one) <= longest_q and n <= longest_k
        score = torch.einsum("qhs,khs->hqk", one, k[keys]) * q.shape[-1] ** -0.5
        seen = torch.ones(len(one), n, dtype=torch.bool).tril(n - len(one))
        weight = score.masked_fill(~seen, -torch.inf).softmax(-1)
        made.append(torch.einsum("hqk,khs->qhs", weight, v[keys]))
    return torch.cat(made)


@pytest.mark.parametrize("answers", [1, 2])
@pytest.mark.parametrize("kept", [False, True])
def test_rows_for_the_cuda_kernel_are_those_of_plain_attention(model, monkeypatch, answers, kept):
    monkeypatch.setattr(packing, "varlen_attn", ragged_reference)
    monkeypatch.setattr(packing, "STEP", 1)  # as on a card
    rows = factory(model, "lora").new().rows_of(examples(6, answers)[0])
    pack = Pack(rows, range(len(rows.lower_M)), model.decoder)
    n = len(pack.kept_K) if kept else len(pack.positions_T)
    torch.manual_seed(0)
    q, k, v = (torch.randn(size, h, 8) for size, h in ((n, 4), (len(pack.positions_T), 2),
                                                      (len(pack.positions_T), 2)))  # fmt: skip
    torch.testing.assert_close(pack._ragged(q, k, v, kept), pack.attend(q, k, v, kept))


def test_long_rows_go_through_the_fused_kernel_alike(model, monkeypatch):
    rows = factory(model, "lora").new().rows_of(examples(6, 2)[0])
    pack = Pack(rows, range(len(rows.lower_M)), model.decoder)
    q, k, v = (torch.randn(len(pack.positions_T), h, 8) for h in (4, 2, 2))
    plain = [pack.attend(q, k, v, False), pack.attend(q[pack.kept_K], k, v, True)]
    monkeypatch.setattr(packing, "PLAIN_KEYS", 0)
    torch.testing.assert_close(pack.attend(q, k, v, False), plain[0])
    torch.testing.assert_close(pack.attend(q[pack.kept_K], k, v, True), plain[1])


def test_tokens_that_fill_a_pack_up_change_nothing(model, monkeypatch):
    rows = factory(model, "lora").new().rows_of(examples(6, 2)[0])
    blocks = fresh_blocks(model.decoder, (0, 3), AdapterOptions(kind="lora", rank=4), 0)
    readout = mean_readout(model.decoder, np.eye(3, WIDTH, dtype=np.float32))
    tuned, sizes, found = Tuned(blocks, readout), [], []
    torch.manual_seed(0)
    for weight in tuned.trained():
        torch.nn.init.normal_(weight, std=0.2)
    for step in (64, 1):
        monkeypatch.setattr(packing, "STEP", step)
        monkeypatch.setattr(packing, "SHORT_STEP", step)
        pack = Pack(rows, range(len(rows.lower_M)), model.decoder)
        sizes.append((len(pack.state_TD), len(pack.kept_K)))
        logits = Tuner(model.decoder, tuned, model.compute, 1).logits(rows, np.arange(6))
        slopes = torch.linspace(-1, 1, 6)
        found.append([logits, *torch.autograd.grad(logits, tuned.trained(), slopes)])
    assert not any(size % 64 for size in sizes[0]) and any(size % 64 for size in sizes[1])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(
            one, other, rtol=1e-4, atol=1e-4 * float(other.detach().abs().max())
        )


def test_a_batch_in_parts_has_the_gradients_of_the_whole_batch(model):
    """Turns of few tokens and several threads add up, also where a loss looks at the batch."""
    rows, targets = examples(16)
    for loss in ("ce", "aux_confidence"):
        options = OPTIONS.model_copy(update={"loss": loss, "epochs": 2, "batch": 16})
        probs = []
        for tokens, n_threads in ((10_000, 1), (60, 3)):
            model.compute = replace(model.compute, train_tokens=tokens)
            model.n_threads = n_threads
            student = factory(model).new(options).fit(rows, targets)
            probs.append(student.predict_proba(rows))
        np.testing.assert_allclose(probs[0], probs[1], atol=2e-3)


def test_labels_are_read_off_two_tokens_at_one_position(model):
    rows, targets = examples(48)
    adapter = AdapterOptions(kind="lora", rank=4, alpha=8.0, readout="labels")
    made = StudentFactory(cache_of(model), LAST, OPTIONS, adapter=adapter)
    student = made.new(OPTIONS.model_copy(update={"epochs": 12, "lr": 2e-2}))
    lower = student.rows_of(rows[:1]).lower_M[0]
    assert lower.n_prompt == lower.n_tokens - 1, "one token is read: the last of the question"
    # Untrained, the prediction is the model's own: log P(Yes) - log P(No).
    asked = verdict_row(rows[0], QUESTIONS[0])
    said = [model.token_ids(word) for word in asked.answers]
    assert said[0][0] == said[1][0] and said[0][1] != said[1][1]  # a space, then Y or N
    template = model.record.template
    tokens = model.token_ids(template.opening + asked.prompt + template.prompt_end) + said[0][:1]
    state = model.decoder.embedding_VD[torch.tensor([tokens])]
    positions = torch.arange(len(tokens))[None]
    state = [*model.decoder.upward(state, model.decoder.blocks, positions, None)][-1]
    logits = model.decoder.logits(state[0, -1:])[0]
    tuned = student.fresh(rows, 0)
    tuner = Tuner(model.decoder, tuned, model.compute)
    found = float(tuner.logits(student.rows_of(rows[:1]), np.array([0])).detach())
    assert found == pytest.approx(float(logits[said[0][1]] - logits[said[1][1]]), abs=1e-4)
    assert len(tuned.trained()) == sum(len(trained_weights(block)) for block in tuned.blocks)
    student.fit(rows, targets)
    test, truth = examples(24, start=1)
    assert ((student.predict_proba(test) > 0.5) == truth).mean() > 0.85


def test_bf16_training_follows_float32(tiny):
    """The same students in both types, on this processor; tests/gpu does the same on a card."""
    rows, targets = examples(48)
    probs = []
    for dtype in (torch.float32, torch.bfloat16):
        model = LanguageModel.load(tiny, 1, dtype)
        probs.append(factory(model, "lora").new().fit(rows, targets).predict_proba(rows))
    assert np.abs(probs[0] - probs[1]).mean() < 0.05
    assert ((probs[0] > 0.5) == (probs[1] > 0.5)).mean() > 0.95
