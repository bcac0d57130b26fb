"""A digest differs where a value or a tensor does, and only there."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorakit.digests import tensors_digest, values_digest

TENSOR = torch.arange(6.0).view(2, 3)


@pytest.mark.parametrize(
    "other",
    [
        {"b": TENSOR},
        {"a": TENSOR.view(3, 2)},
        {"a": TENSOR.view(torch.int32)},
        {"a": TENSOR + 1},
        {"a": TENSOR, "b": TENSOR},
        {},
    ],
    ids=["name", "shape", "dtype", "numbers", "more", "fewer"],
)
def test_tensors_digest_has_each_tensors_name_dtype_shape_and_bytes(
    other: dict[str, Tensor],
) -> None:
    assert tensors_digest({"a": TENSOR}) != tensors_digest(other)


def test_tensors_digest_is_that_of_the_numbers_whatever_the_layout_and_order() -> None:
    turned = TENSOR.t().contiguous().t()
    assert not turned.is_contiguous()
    expected = tensors_digest({"a": TENSOR, "b": TENSOR})
    assert tensors_digest({"b": turned.requires_grad_(), "a": TENSOR}) == expected


def test_tensors_digest_has_the_heading() -> None:
    assert tensors_digest({}, "one") != tensors_digest({}, "two")


def test_values_digest_has_keys_in_any_order_and_values_in_theirs() -> None:
    assert values_digest([{"a": 1, "b": 2}]) == values_digest([{"b": 2, "a": 1}])
    assert values_digest([1, 2]) != values_digest([2, 1])
