"""The parts of an adapter against dense matrices."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lorakit.analysis.parts import numerical_rank, parts_of
from lorakit.variants import LinearSite
from tests.analysis.adapters import (
    SITES,
    dora,
    matrices,
    random_adapter,
    random_weight,
    tokens,
    written_out,
)
from tests.tolerances import TOLERANCES

CLOSE = TOLERANCES[torch.float64]


@pytest.mark.parametrize("kind", SITES)
def test_update_of_each_part_is_the_one_written_out(kind: str) -> None:
    site = SITES[kind]
    adapter, weight = random_adapter(site), random_weight(site)
    parts = list(parts_of("m", adapter, weight))
    expected = written_out(site, adapter)
    for part, dense, base in zip(parts, expected, matrices(site, weight), strict=True):
        left, values, right = part.update
        assert_close(left @ values.diag() @ right.t(), dense, **CLOSE)
        assert part.shape == tuple(dense.shape)
        assert part.weight is not None
        assert torch.equal(part.weight, base)


@pytest.mark.parametrize(
    ("kind", "names"),
    [("linear", ["m"]), ("slices", ["m[0:5]", "m[8:15]"]), ("groups", ["m[0:3]", "m[3:6]"])],
)
def test_parts_are_named_by_their_rows(kind: str, names: list[str]) -> None:
    assert [part.name for part in parts_of("m", random_adapter(SITES[kind]), None)] == names


def test_rank_of_a_group_is_that_of_its_own_factors() -> None:
    assert [part.rank for part in parts_of("m", random_adapter(SITES["groups"], 4), None)] == [2, 2]


def test_update_of_dora_is_the_one_written_out() -> None:
    weight = random_weight(LinearSite(11, 7)).double()
    adapter = dora(weight)
    (part,) = parts_of("m", adapter, weight)
    a, b, m = (tensor.double() for tensor in adapter.tensors.values())
    changed = weight + 1.5 * b @ a
    dense = m.unsqueeze(1) * changed / changed.norm(dim=1, keepdim=True) - weight
    left, values, right = part.update
    assert_close(left @ values.diag() @ right.t(), dense, **CLOSE)
    assert (part.rank, len(values), part.update_rank) == (2, 7, 2)
    assert {of: found.shape[1] for of, found in part.directions.items()} == dict.fromkeys(
        ["A", "B", "dW, input", "dW, output"], 2
    )


def test_update_of_trainable_tokens_is_the_one_written_out() -> None:
    weight = random_weight(LinearSite(5, 13)).double()
    adapter = tokens((2, 5, 12), 13, 5)
    (part,) = parts_of("m", adapter, weight)
    dense = torch.zeros_like(weight)
    for place, row in enumerate((2, 5, 12)):
        dense[row] = adapter.tensors["trainable_tokens_delta"][place].double() - weight[row]
    left, values, right = part.update
    assert_close(left @ values.diag() @ right.t(), dense, **CLOSE)
    assert (part.rank, part.pair, set(part.directions)) == (3, None, {"dW, input", "dW, output"})


def test_directions_of_a_factor_span_it_from_the_largest_on() -> None:
    site = SITES["linear"]
    adapter = random_adapter(site, 3)
    (part,) = parts_of("m", adapter, None)
    a, b = adapter.tensors["lora_A"].double(), adapter.tensors["lora_B"].double()
    for matrix, of in ((a, "A"), (b.t(), "B")):
        directions = part.directions[of]
        along = (matrix @ directions).norm(dim=0)
        assert_close(along, torch.linalg.svdvals(matrix), **CLOSE)


def test_directions_of_what_is_zero_are_none() -> None:
    adapter = random_adapter(SITES["linear"])
    zero = adapter.with_factors(adapter.tensors["lora_A"], torch.zeros(7, 2))
    (part,) = parts_of("m", zero, None)
    sizes = {of: found.shape[1] for of, found in part.directions.items()}
    assert sizes == {"A": 2, "B": 0, "dW, input": 0, "dW, output": 0}


def test_directions_of_repeated_rows_are_as_many_as_they_span() -> None:
    a = torch.tensor([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0]])
    adapter = random_adapter(LinearSite(3, 4)).with_factors(a, torch.ones(4, 2))
    (part,) = parts_of("m", adapter, None)
    assert {of: found.shape[1] for of, found in part.directions.items()} == dict.fromkeys(
        ["A", "B", "dW, input", "dW, output"], 1
    )


def test_numerical_rank_of_nothing_is_zero() -> None:
    assert numerical_rank(torch.zeros(0), (0, 3)) == numerical_rank(torch.zeros(2), (2, 3)) == 0
