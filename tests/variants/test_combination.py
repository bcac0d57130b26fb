"""Sums of adapters: the update of the sum is the sum of the updates, for every kind of site."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

from lorakit.variants import (
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    LinearSite,
    ModuleAdapter,
    Site,
    SlicedSite,
)
from lorakit.variants.combination import weighted_sum
from tests.tolerances import TOLERANCES

SLICES = ((4, True), (4, False), (4, True))
SITES: dict[str, list[Site]] = {
    "linear": [LinearSite(6, 12)],
    "transposed": [LinearSite(6, 12, True)],
    "slices beside a whole weight": [SlicedSite(6, 12, False, SLICES), LinearSite(6, 12)],
    "embedding": [EmbeddingSite(9, 4)],
    "convolution": [ConvSite((6, 4, 3, 3))],
    "groups": [ConvSite((6, 2, 3), 2)],
    "loralib's matrices beside kernels": [
        ConvSite((6, 4, 3, 3), square=True),
        ConvSite((6, 4, 3, 3)),
    ],
}


@pytest.mark.parametrize("kind", SITES)
def test_the_sum_has_the_summed_update(kind: str) -> None:
    terms = []
    for n, weight in enumerate([0.5, -2.0, 1.0]):
        site = SITES[kind][n % len(SITES[kind])]
        rank = 2 * (n + 1)
        a, b = (torch.randn(shape, dtype=torch.float64) for shape in site.factor_shapes(rank))
        spec = AdapterSpec(rank, lora_alpha=3 + n, use_rslora=n == 1)
        terms.append((ModuleAdapter(spec, {"lora_A": a, "lora_B": b}, site), weight))
    expected = sum(weight * adapter.delta() for adapter, weight in terms)
    total = weighted_sum(terms)
    assert total.spec.scaling == 1.0
    assert total.shapes == total.variant.shapes(total.site, total.spec.r)  # type: ignore[arg-type]
    assert_close(total.delta(), expected, **TOLERANCES[torch.float64])
