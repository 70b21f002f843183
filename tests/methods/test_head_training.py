"""The loop: golden loss, exact gradient, standardisation on train rows, determinism, refusals."""

import numpy as np
import pytest
import torch

from aarlab.core.errors import BadInput
from aarlab.testbed.students.options import HeadOptions
from aarlab.testbed.students.train import (
    BETA_1,
    BETA_2,
    EPSILON,
    LOSSES,
    RAMP,
    AdamW,
    Batch,
    Head,
    HeadWeights,
    auxiliary_weight,
    fit_head,
    logit,
)

GOLDEN = (0.6828919, 0.6665141, 0.6570375)


def blobs(n=200, answers=1, width=12, seed=0):
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, n)
    states = rng.normal(size=(n, answers, width)).astype(np.float32)
    states[:, 0, 0] += 2 * targets - 1
    return states, targets.astype(np.float64)


def test_golden_loss():
    states, targets = blobs()
    head = fit_head(states, targets, HeadOptions(hidden=8, epochs=3, lr=0.01))
    assert head.losses == pytest.approx(GOLDEN, rel=1e-3)


@pytest.mark.parametrize("hidden", [0, 16])
@pytest.mark.parametrize("answers", [1, 2])
def test_learns_and_generalises(hidden, answers):
    states, targets = blobs(600, answers)
    head = fit_head(states[:400], targets[:400], HeadOptions(hidden=hidden, epochs=10, lr=0.01))
    accuracy = ((head.predict_proba(states[400:]) > 0.5) == targets[400:]).mean()
    assert accuracy > (0.75 if answers == 1 else 0.7)


@pytest.mark.parametrize("hidden", [0, 5])
@pytest.mark.parametrize("answers", [1, 2])
def test_backward_is_the_gradient_that_torch_finds(hidden, answers):
    rng = np.random.default_rng(1)
    width, inputs = 4, rng.normal(size=(7, answers, 4)).astype(np.float32)
    theta = rng.normal(size=HeadWeights.size(width, hidden)).astype(np.float32)
    slope = rng.normal(size=7).astype(np.float32)
    weights, grad = HeadWeights(theta, width, hidden), np.zeros_like(theta)
    logits, last = weights.forward(inputs)
    weights.backward(inputs, last, slope, grad)

    t = torch.tensor(theta, requires_grad=True)
    x, inner = torch.tensor(inputs), width * hidden
    if hidden:
        x = torch.relu(x @ t[:inner].reshape(width, hidden) + t[inner : inner + hidden])
    scores = x @ t[inner + hidden : -1] + t[-1]
    out = scores[:, 0] - scores[:, 1] if answers == 2 else scores[:, 0]
    out.backward(torch.tensor(slope))
    np.testing.assert_allclose(logits, out.detach().numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(grad, t.grad.numpy(), rtol=1e-4, atol=1e-5)


def _torch_loss(name, z, w, options):
    p, a = torch.sigmoid(z), options.a_max
    bce = torch.nn.functional.binary_cross_entropy_with_logits
    if name == "ce":
        return bce(z, w, reduction="none")
    if name == "entropy":
        return (1 - a) * bce(z, w, reduction="none") + a * bce(z, p, reduction="none")
    if name == "product":
        mixed = torch.sigmoid(options.beta * z.detach() + options.alpha * torch.logit(w))
        return bce(z, mixed, reduction="none")
    if name == "window":
        keep = (torch.maximum(p, 1 - p) < 0.5 + options.radius).detach()
        return bce(z, w, reduction="none") * keep
    if name == "reverse_kl":
        return p * (p / w).log() + (1 - p) * ((1 - p) / (1 - w)).log()
    if name == "reverse_ce":
        return -p * w.log() - (1 - p) * (1 - w).log()
    own = torch.zeros_like(w)
    own[z.argsort(descending=True)[: round(0.4 * len(z))]] = 1.0
    return bce(z, (1 - a) * w + a * own, reduction="none")


@pytest.mark.parametrize("name", sorted(LOSSES))
def test_value_and_slope_of_each_loss_match_autograd(name):
    rng = np.random.default_rng(2)
    logits = rng.normal(0, 1.5, 50).astype(np.float32)
    targets = rng.uniform(0.02, 0.98, 50).astype(np.float32)
    options = HeadOptions(loss=name, a_max=0.4, alpha=0.7, beta=0.6)
    loss = LOSSES[name](Batch(logits, targets, 1.0, 0.4), options)
    z = torch.tensor(logits, requires_grad=True)
    expected = _torch_loss(name, z, torch.tensor(targets), options)
    expected.sum().backward()
    np.testing.assert_allclose(loss.value_B, expected.detach().numpy(), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(loss.slope_B, z.grad.numpy(), rtol=1e-3, atol=1e-5)


def test_auxiliary_weight_rises_linearly_then_stays():
    steps = [auxiliary_weight(p, 0.5) for p in (0.0, RAMP / 4, RAMP / 2, RAMP, 0.5, 1.0)]
    assert steps == pytest.approx([0.0, 0.125, 0.25, 0.5, 0.5, 0.5])


def test_auxiliary_threshold_gives_the_batch_the_weak_prior():
    logits = np.linspace(-3, 3, 10).astype(np.float32)
    targets = np.full(10, 0.5, np.float32)
    slope = LOSSES["aux_confidence"](
        Batch(logits, targets, 1.0, 0.3), HeadOptions(a_max=1.0)
    ).slope_B
    assert (slope < 0).tolist() == [False] * 7 + [True] * 3  # three rows are pulled towards 1


def test_a_step_of_adamw_is_the_published_formula_to_the_bit():
    """Buffers make a step faster and must change no number."""
    rng, options = np.random.default_rng(3), HeadOptions(hidden=5, weight_decay=10.0)
    width, size = 4, HeadWeights.size(4, 5)
    theta = rng.normal(size=size).astype(np.float32)
    plain, first, second = theta.copy(), np.zeros(size, np.float32), np.zeros(size, np.float32)
    optimiser = AdamW(theta, width, options)
    for number in range(1, 30):
        grad, lr = rng.normal(size=size).astype(np.float32), 0.01 / number
        optimiser.step(grad, lr)
        weights = HeadWeights(plain, width, options.hidden)
        for matrix in (weights.hidden_DH, weights.out_K):
            matrix *= np.float32(1 - lr * options.weight_decay)
        first += np.float32(1 - BETA_1) * (grad - first)
        second += np.float32(1 - BETA_2) * (grad * grad - second)
        spread = np.sqrt(second / np.float32(1 - BETA_2**number))
        rate = np.float32(lr / (1 - BETA_1**number))
        plain -= rate * first / (spread + np.float32(EPSILON))
        np.testing.assert_array_equal(theta, plain)


def test_standardises_with_training_rows_only():
    states, targets = blobs(width=3)
    states[:, :, 1] = states[:, :, 1] * 50 + 7
    states[:, :, 2] = 4.0
    head = fit_head(states, targets, HeadOptions(hidden=4))
    np.testing.assert_allclose(head.mean_D, states.reshape(-1, 3).mean(axis=0), rtol=1e-5)
    assert head.scale_D[1] == pytest.approx(states[:, 0, 1].std(), rel=1e-4)
    assert head.scale_D[2] == 1.0
    one = head.predict_proba(states[:1])
    far = np.concatenate([states[:1], states[1:2] * 1000])
    np.testing.assert_allclose(head.predict_proba(far)[:1], one, rtol=1e-5)


def test_same_seed_same_bits_other_seed_other_head():
    states, targets = blobs()
    heads = [fit_head(states, targets, HeadOptions(seed=seed)) for seed in (1, 1, 2)]
    assert (heads[0].theta == heads[1].theta).all()
    assert not (heads[0].theta == heads[2].theta).all()


def test_zero_weight_rows_teach_nothing():
    states, targets = blobs(300)
    flipped = targets.copy()
    flipped[150:] = 1 - flipped[150:]
    weights = np.r_[np.ones(150), np.zeros(150)]
    options = HeadOptions(hidden=0, epochs=10, lr=0.02)
    head = fit_head(states, flipped, options, weights)
    assert ((head.predict_proba(states) > 0.5) == targets).mean() > 0.75


def test_goes_on_from_a_head():
    states, targets = blobs()
    first = fit_head(states, targets, HeadOptions(hidden=8, epochs=1, lr=0.01))
    second = fit_head(states + 0.1, targets, HeadOptions(hidden=8, epochs=2, lr=0.01), start=first)
    assert len(second.losses) == 3 and second.losses[-1] < first.losses[0]
    assert (second.mean_D == first.mean_D).all()
    with pytest.raises(BadInput, match="hidden units"):
        fit_head(states, targets, HeadOptions(hidden=4), start=first)


def test_swapping_the_answers_flips_the_prediction():
    states, targets = blobs(answers=2)
    head = fit_head(states, targets, HeadOptions())
    total = head.predict_proba(states) + head.predict_proba(states[:, ::-1])
    np.testing.assert_allclose(total, 1, atol=1e-5)


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda s, t: (s[:, 0], t), "shape"),
        (lambda s, t: (s, t[:-1]), "targets"),
        (lambda s, t: (s, t + 1), r"\[0, 1\]"),
        (lambda s, t: (np.full_like(s, np.nan), t), "NaN"),
    ],
)
def test_refuses_bad_arrays(spoil, says):
    with pytest.raises(BadInput, match=says):
        fit_head(*spoil(*blobs()), HeadOptions())


def test_refuses_bad_weights_and_other_widths():
    states, targets = blobs()
    for weights in (np.zeros(200), -np.ones(200), np.ones(3)):
        with pytest.raises(BadInput, match="weights"):
            fit_head(states, targets, HeadOptions(), weights)
    head = fit_head(states, targets, HeadOptions())
    with pytest.raises(BadInput, match="width"):
        head.predict_proba(states[:, :, :5])
    assert isinstance(head, Head)


def test_log_odds_stay_finite():
    assert np.isfinite(logit(np.array([0.0, 1.0], np.float32))).all()


def test_an_untrained_head_has_no_opinion():
    """Soft targets near 1/2 would otherwise not outweigh a random first guess."""
    states, targets = blobs()
    head = fit_head(states, targets, HeadOptions(epochs=1, lr=1e-9))
    np.testing.assert_allclose(head.predict_proba(states), 0.5, atol=1e-4)
