"""Starting values: distributions, shapes, types."""

from __future__ import annotations

import pytest
import torch
from scipy import stats
from torch import Tensor, nn
from torch.testing import assert_close

from lorakit.functional.initialise import INITIALISERS, adapter_dtype, embedding_factors
from tests.tolerances import EXACT

OUT, IN, R = 500, 400, 25


def assert_distributed(sample: Tensor, distribution: object) -> None:
    """Kolmogorov-Smirnov at one in ten thousand; the seed is fixed, so this never flickers."""
    result = stats.kstest(sample.flatten().double().numpy(), distribution.cdf)  # type: ignore[attr-defined]
    assert result.pvalue > 1e-4, f"{result}"


def uniform(bound: float) -> object:
    return stats.uniform(-bound, 2 * bound)


@pytest.mark.parametrize(
    ("init", "a_distribution"),
    [
        (True, uniform(IN**-0.5)),
        (False, uniform(IN**-0.5)),
        ("gaussian", stats.norm(scale=1 / R)),
    ],
)
def test_a_has_its_distribution(init, a_distribution):
    a, _ = INITIALISERS[init](torch.zeros(OUT, IN), R)
    assert a.shape == (R, IN)
    assert_distributed(a, a_distribution)
    assert a.unique().numel() > 0.99 * a.numel()


@pytest.mark.parametrize("init", [True, "gaussian"])
def test_b_starts_at_zero(init):
    _, b = INITIALISERS[init](torch.zeros(OUT, IN), R)
    assert b.shape == (OUT, R)
    assert not b.any()


def test_b_is_random_where_the_update_shall_not_be_zero():
    _, b = INITIALISERS[False](torch.zeros(OUT, IN), R)
    assert_distributed(b, uniform(R**-0.5))


def test_a_starts_like_a_layer_of_torch():
    torch.manual_seed(3)
    expected = nn.Linear(IN, R, bias=False).weight
    torch.manual_seed(3)
    assert_close(INITIALISERS[True](torch.zeros(OUT, IN), R)[0], expected.detach(), **EXACT)


def test_embedding_factors_reverse_the_roles():
    a, b = embedding_factors(torch.zeros(IN, OUT), R, True)
    assert (a.shape, b.shape) == ((R, IN), (OUT, R))
    assert not a.any()
    assert_distributed(b, stats.norm())


def test_embedding_factors_are_both_random_for_false():
    a, b = embedding_factors(torch.zeros(IN, OUT), R, False)
    assert_distributed(a, stats.norm())
    assert_distributed(b, stats.norm())


@pytest.mark.parametrize(
    ("weight", "adapter"),
    [
        (torch.bfloat16, torch.float32),
        (torch.float16, torch.float32),
        (torch.float32, torch.float32),
        (torch.float64, torch.float64),
    ],
)
@pytest.mark.parametrize("init", list(INITIALISERS))
def test_factors_are_master_copies_of_at_least_float32(weight, adapter, init):
    assert adapter_dtype(weight) == adapter
    a, b = INITIALISERS[init](torch.zeros(6, 5, dtype=weight), 2)
    assert a.dtype == b.dtype == adapter
    a, b = embedding_factors(torch.zeros(6, 5, dtype=weight), 2, init)
    assert a.dtype == b.dtype == adapter


@pytest.mark.parametrize("init", list(INITIALISERS))
def test_factors_are_on_the_device_of_the_weight(init):
    weight = torch.zeros(6, 5, device="meta")
    assert all(factor.is_meta for factor in INITIALISERS[init](weight, 2))
    assert all(factor.is_meta for factor in embedding_factors(weight, 2, init))


@pytest.mark.parametrize("init", list(INITIALISERS))
def test_initialisers_leave_the_weight_alone(init):
    weight = torch.randn(6, 5)
    before = weight.clone()
    INITIALISERS[init](weight, 2)
    embedding_factors(weight, 2, init)
    assert_close(weight, before, **EXACT)
