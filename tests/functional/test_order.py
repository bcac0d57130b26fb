"""The choice between the low-rank path and a formed weight."""

from __future__ import annotations

import pytest
import torch

from lorakit.functional import order


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("width", [384, 768, 1536])
def test_one_token_adds_and_a_large_batch_forms(dtype, width):
    weight = torch.empty(width, width, dtype=dtype)
    assert not order.forming_pays(1, 0, width, weight, 8)
    assert order.forming_pays(32 * width, 0, width, weight, 8)


def test_more_tokens_never_turn_the_choice_back():
    weight = torch.empty(384, 384)
    choices = [order.forming_pays(tokens, 384, 384, weight, 8) for tokens in range(1, 5000, 50)]
    assert choices == sorted(choices)


def test_nothing_is_formed_where_nothing_was_measured():
    assert not order.forming_pays(10**6, 0, 384, torch.empty(384, 384, device="meta"), 8)
    assert not order.forming_pays(10**6, 0, 384, torch.empty(384, 384, dtype=torch.float16), 8)


def test_time_is_operations_bytes_and_calls():
    rates = order.Rates(operations=10.0, bytes=5.0, call=0.25)
    assert rates.seconds(20, 10, 2) == 2.0 + 2.0 + 0.5


def test_a_product_that_is_needed_anyway_costs_nothing():
    """Somewhere between a few and many tokens, the forward forms and the gradient does not."""
    weight = torch.empty(384, 384)
    choices = {
        (
            order.forming_pays(tokens, 384, 384, weight, 8),
            order.forming_pays(tokens, 0, 384, weight, 8),
        )
        for tokens in range(1, 1000)
    }
    assert choices == {(False, False), (True, False), (True, True)}
