"""A base is known again in each precision it may be loaded in, and no other is taken for it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lorakit.checkpoint.fingerprint import SAMPLES, compare, fingerprint

HALVES = [torch.bfloat16, torch.float16]
Weights = dict[str, Tensor]


def weights(dtype: torch.dtype = torch.float32) -> Weights:
    torch.manual_seed(7)
    made = {"layer.0.q": torch.randn(13, 17), "layer.1.q": torch.randn(5, 11)}
    return {name: weight.to(dtype) for name, weight in made.items()}


def cast(given: Weights, dtype: torch.dtype) -> Weights:
    return {name: weight.to(dtype) for name, weight in given.items()}


def test_float32_base_has_a_digest_for_each_type_it_may_be_rounded_to() -> None:
    digests = fingerprint(weights())
    assert list(digests) == ["float32", "bfloat16", "float16"]
    assert len(set(digests.values())) == 3
    assert all(len(digest) == 64 for digest in digests.values())


@pytest.mark.parametrize("dtype", [*HALVES, torch.float64])
def test_other_base_has_the_digest_of_its_own_type(dtype: torch.dtype) -> None:
    assert list(fingerprint(weights(dtype))) == [str(dtype).removeprefix("torch.")]


@pytest.mark.parametrize("dtype", HALVES)
def test_digest_of_a_rounded_base_is_the_one_that_float32_foretold(dtype: torch.dtype) -> None:
    name = str(dtype).removeprefix("torch.")
    assert fingerprint(weights(dtype))[name] == fingerprint(weights())[name]


@pytest.mark.parametrize("stored", [torch.float32, *HALVES])
@pytest.mark.parametrize("here", [torch.float32, *HALVES])
def test_same_base_is_known_across_precisions(stored: torch.dtype, here: torch.dtype) -> None:
    found = compare(fingerprint(weights(stored)), weights(here))
    halves_differ = stored in HALVES and here in HALVES and stored != here
    assert found is (None if halves_differ else True)


@pytest.mark.parametrize(
    ("stored", "here"),
    [
        (stored, here)
        for stored in (torch.float32, *HALVES)
        for here in (torch.float32, *HALVES)
        if stored == here or torch.float32 in (stored, here)
    ],
)
@pytest.mark.parametrize("name", ["layer.0.q", "layer.1.q"])
def test_one_changed_weight_is_noticed(stored: torch.dtype, here: torch.dtype, name: str) -> None:
    other = weights()
    other[name] = other[name] * 1.02  # more than bfloat16's last digit
    assert compare(fingerprint(weights(stored)), cast(other, here)) is False


def test_every_element_of_a_small_weight_counts() -> None:
    small = {"w": torch.randn(6, 7)}
    digests = fingerprint(small)
    for place in range(small["w"].numel()):
        other = {"w": small["w"].clone()}
        other["w"].view(-1)[place] += 0.5
        assert compare(digests, other) is False, place


def test_samples_of_a_large_weight_reach_from_end_to_end() -> None:
    """A row that is changed, as in a resized or partly trained table, is seen wherever it is."""
    size = 1000
    large = {"w": torch.randn(size, 64)}
    digests = fingerprint(large)
    width = -(-size // SAMPLES)
    for first in range(0, size, width):
        other = {"w": large["w"].clone()}
        other["w"][first : first + width] += 0.5
        assert compare(digests, other) is False, first


@pytest.mark.parametrize(
    "other",
    [
        {"layer.0.q": weights()["layer.0.q"]},
        {"layer.0.k": weights()["layer.0.q"], "layer.1.q": weights()["layer.1.q"]},
        {"layer.0.q": weights()["layer.0.q"].t(), "layer.1.q": weights()["layer.1.q"]},
        {"layer.0.q": weights()["layer.0.q"].view(17, 13), "layer.1.q": weights()["layer.1.q"]},
    ],
    ids=["a module less", "another name", "transposed", "another shape"],
)
def test_names_and_shapes_belong_to_the_base(other: Weights) -> None:
    assert compare(fingerprint(weights()), other) is False


def test_memory_layout_and_order_do_not_belong_to_the_base() -> None:
    digests = fingerprint(weights())
    columns = {name: weight.t().contiguous().t() for name, weight in weights().items()}
    assert not columns["layer.0.q"].is_contiguous()
    assert compare(digests, columns) is True
    assert compare(digests, dict(reversed(weights().items()))) is True


def test_what_cannot_be_compared_is_not_called_equal() -> None:
    digests = fingerprint(weights())
    assert compare(None, weights()) is None
    assert compare({}, weights()) is None
    assert compare(digests, cast(weights(), torch.float64)) is None
    meta = {name: weight.to("meta") for name, weight in weights().items()}
    assert compare(digests, meta) is None
    assert fingerprint(meta) == {}
    mixed = weights() | {"layer.1.q": weights()["layer.1.q"].half()}
    assert fingerprint(mixed) == {}
    assert fingerprint({}) == {}


def test_weights_stay_as_they_are() -> None:
    given = weights()
    before = {name: (weight.clone(), weight._version) for name, weight in given.items()}
    fingerprint(given)
    compare(fingerprint(given), given)
    for name, (values, version) in before.items():
        assert torch.equal(given[name], values)
        assert given[name]._version == version


def test_digest_stays_the_same_from_version_to_version() -> None:
    """Files of earlier versions hold these numbers."""
    given = {"w": torch.arange(100, dtype=torch.float32).view(10, 10) / 7}
    assert {name: digest[:16] for name, digest in fingerprint(given).items()} == {
        "float32": "5de22400ed2e4a59",
        "bfloat16": "4609ecf2b7c78526",
        "float16": "0b0d5079a768bc76",
    }
