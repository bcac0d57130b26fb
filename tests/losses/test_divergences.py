"""Each loss against its formula, written out over plain numbers."""

from __future__ import annotations

from math import exp, log

import pytest
import torch
from torch import Tensor

from lorakit.losses import LOSSES, LossConfig

KINDS = sorted(name for name, loss in LOSSES.items() if loss.combine is not None)
CUTOFFS = [kind for kind in KINDS if kind.startswith("cutoff")]


def combine(z1: Tensor, z2: Tensor, y: Tensor, config: LossConfig) -> Tensor:
    return LOSSES[config.kind].combine(z1, z2, y, **config.weights)


def logits(classes: int, examples: int = 5) -> tuple[Tensor, Tensor]:
    return torch.randn(2, examples, classes, dtype=torch.float64).mul(2).unbind(0)


def softmax(row: list[float]) -> list[float]:
    whole = sum(exp(z) for z in row)
    return [exp(z) / whole for z in row]


def kl(p: list[float], q: list[float]) -> float:
    return sum(a * log(a / b) for a, b in zip(p, q, strict=True))


def mean(values: list[float]) -> float:
    return sum(values) / len(values)


def rdrop_by_hand(z1, z2, y, weight):
    losses = []
    for a, b, label in zip(z1, z2, y, strict=True):
        p, q = softmax(a), softmax(b)
        distance = (kl(p, q) + kl(q, p)) / 2
        losses.append(-log(p[label]) - log(q[label]) + weight * distance)
    return mean(losses)


def cutoff_by_hand(z1, z2, y, weight, copy_weight):
    losses = []
    for a, b, label in zip(z1, z2, y, strict=True):
        p, q = softmax(a), softmax(b)
        m = [(x + y) / 2 for x, y in zip(p, q, strict=True)]
        distance = (kl(m, p) + kl(m, q)) / 2
        losses.append(-log(p[label]) - copy_weight * log(q[label]) + weight * distance)
    return mean(losses)


def loralib_by_hand(z1, z2, y, weight):
    losses = []
    for a, b, label in zip(z1, z2, y, strict=True):
        p, q = softmax(a), softmax(b)
        m = softmax([(u + v) / 2 for u, v in zip(a, b, strict=True)])
        distance = (kl(m, p) + kl(m, q)) / (2 * len(a))
        losses.append(-log(p[label]) - log(q[label]) + weight * distance)
    return mean(losses)


def by_hand(config: LossConfig, z1: Tensor, z2: Tensor, y: Tensor) -> float:
    values = z1.tolist(), z2.tolist(), y.tolist(), config.weight
    if config.kind.startswith("cutoff"):
        return cutoff_by_hand(*values, config.copy_weight)
    return rdrop_by_hand(*values) if config.kind == "rdrop" else loralib_by_hand(*values)


@pytest.mark.parametrize("classes", [2, 3, 7])
@pytest.mark.parametrize("kind", KINDS)
def test_a_loss_is_its_formula(kind, classes):
    z1, z2 = logits(classes)
    y = torch.arange(5) % classes
    config = LossConfig(kind, weight=0.7, copy_weight=0.3 if kind in CUTOFFS else None)
    found = combine(z1, z2, y, config)
    assert found.dtype == torch.float64
    assert float(found) == pytest.approx(by_hand(config, z1, z2, y), rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_with_one_output_it_is_the_squared_error_and_distance(kind):
    z1, z2 = logits(1)
    y = torch.tensor([0.5, 1.0, 2.0, 4.5, 5.0])
    copy_weight = 0.3 if kind in CUTOFFS else 1.0
    config = LossConfig(kind, weight=0.7, copy_weight=0.3 if kind in CUTOFFS else None)
    by_hand = mean(
        [
            (a - t) ** 2 + copy_weight * (b - t) ** 2 + 0.7 * (a - b) ** 2
            for a, b, t in zip(z1[:, 0].tolist(), z2[:, 0].tolist(), y.tolist(), strict=True)
        ]
    )
    assert float(combine(z1, z2, y, config)) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_equal_passes_have_no_distance(kind, classes):
    z, _ = logits(classes)
    y = torch.zeros(5, dtype=torch.long)
    near, far = (combine(z, z, y, LossConfig(kind, weight=w)) for w in (0.0, 100.0))
    torch.testing.assert_close(near, far, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("classes", [1, 3])
def test_gradients_reach_both_passes(kind, classes):
    z1, z2 = (z.requires_grad_() for z in logits(classes))
    y = torch.zeros(5, dtype=torch.long)
    assert torch.autograd.gradcheck(
        lambda a, b: combine(a, b, y, LossConfig(kind, weight=0.7)), (z1, z2)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_parts_of_a_batch_add_up_by_their_numbers_of_examples(kind):
    z1, z2 = logits(3)
    y = torch.tensor([0, 2, 1, 1, 0])
    config = LossConfig(kind, weight=0.7)
    whole = combine(z1, z2, y, config)
    parts = [combine(z1[i], z2[i], y[i], config) for i in (slice(0, 2), slice(2, 5))]
    torch.testing.assert_close(2 / 5 * parts[0] + 3 / 5 * parts[1], whole)


def test_logits_that_are_far_apart_have_finite_losses():
    z1 = torch.tensor([[1e4, -1e4]], requires_grad=True)
    z2 = torch.tensor([[-1e4, 1e4]], requires_grad=True)
    for kind in KINDS:
        loss = combine(z1, z2, torch.tensor([0]), LossConfig(kind))
        assert loss.isfinite()
        assert all(g.isfinite().all() for g in torch.autograd.grad(loss, (z1, z2)))


@pytest.mark.parametrize("classes", [2, 3])
def test_loralib_counts_near_passes_4c_times_less_than_rdrop(classes):
    z1, noise = logits(classes)
    z2, y = z1 + 1e-4 * noise, torch.zeros(5, dtype=torch.long)
    distances = {}
    for kind in ("rdrop", "loralib_rdrop"):
        with_it, without = (combine(z1, z2, y, LossConfig(kind, w)) for w in (1.0, 0.0))
        distances[kind] = float(with_it - without)
    ratio = distances["rdrop"] / distances["loralib_rdrop"]
    assert ratio == pytest.approx(4 * classes, rel=1e-3)
