"""Masks from seeds: the share, independence, and the same mask from the same seed."""

from __future__ import annotations

import pytest
import torch

from lorakit.functional.dropout import draw_seed, keep_mask


@pytest.mark.parametrize("p", [1e-4, 0.1, 0.5, 0.9, 0.99999])
def test_the_share_that_is_kept_is_one_minus_p(p):
    n = 200_000
    kept = keep_mask(torch.empty(n), p, seed=1).mean(dtype=torch.float64).item()
    deviation = (p * (1 - p) / n) ** 0.5
    assert abs(kept - (1 - p)) <= 5 * deviation + 2**-16


def test_neighbours_are_drawn_independently():
    """The four elements that share a 64-bit draw, and the draws, have no correlation."""
    mask = keep_mask(torch.empty(400_000), 0.3, seed=2)
    for lag in (1, 2, 3, 4, 5):
        both = (mask[:-lag] * mask[lag:]).mean().item()
        assert abs(both - 0.49) < 0.005, lag


@pytest.mark.parametrize("shape", [(), (1,), (3, 5), (0, 4), (7, 1, 3)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_mask_has_shape_and_type_and_follows_from_its_seed(shape, dtype):
    like = torch.empty(shape, dtype=dtype)
    mask = keep_mask(like, 0.5, seed=7)
    assert (mask.shape, mask.dtype) == (like.shape, like.dtype)
    assert set(mask.flatten().tolist()) <= {0.0, 1.0}
    assert torch.equal(mask, keep_mask(like, 0.5, seed=7))
    assert (
        keep_mask(torch.empty(64), 0.5, 7).tolist() != keep_mask(torch.empty(64), 0.5, 8).tolist()
    )


def test_a_mask_of_a_transposed_tensor_is_that_of_a_contiguous_one():
    like = torch.empty(4, 6)
    assert torch.equal(keep_mask(like.t(), 0.5, 3), keep_mask(torch.empty(6, 4), 0.5, 3))


def test_seeds_follow_torchs_generator():
    torch.manual_seed(0)
    first = [draw_seed() for _ in range(3)]
    torch.manual_seed(0)
    assert [draw_seed() for _ in range(3)] == first
    assert len(set(first)) == 3


def test_seed_comes_from_the_cpu_whatever_the_default_device():
    torch.manual_seed(0)
    expected = draw_seed()
    torch.manual_seed(0)
    with torch.device("meta"):
        assert draw_seed() == expected
