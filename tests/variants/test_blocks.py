"""The rows of a weight that are adapted by themselves change as they do in the whole."""

from __future__ import annotations

import pytest
import torch

from lorakit.variants import (
    VARIANTS,
    AdapterSpec,
    ConvSite,
    EmbeddingSite,
    InProjSite,
    LinearSite,
    ModuleAdapter,
    ParameterSite,
    RowsSite,
    Site,
    SlicedSite,
)
from lorakit.variants.trainable_tokens import rows_spec
from tests.tolerances import TOLERANCES

SPEC = AdapterSpec(2, lora_alpha=3)
CASES = [
    (LinearSite(5, 9), SPEC),
    (LinearSite(9, 5, transposed=True), SPEC),
    (InProjSite(3, 9), SPEC),
    (EmbeddingSite(9, 4), SPEC),
    (ParameterSite(5, 3, 9), SPEC),
    (ParameterSite(5, 3, 9, transposed=True), SPEC),
    (ParameterSite(5, 9), SPEC),
    (LinearSite(5, 9), AdapterSpec(2, lora_alpha=3, variant="dora")),
    (RowsSite(4, 9, rows=(0, 3, 4, 8)), rows_spec((0, 3, 4, 8))),
]


def adapter_of(site: Site, spec: AdapterSpec) -> ModuleAdapter:
    shapes = VARIANTS[spec.variant].shapes(site, spec.r)
    return ModuleAdapter(spec, {name: torch.randn(shape) for name, shape in shapes.items()}, site)


@pytest.mark.parametrize(("site", "spec"), CASES)
@pytest.mark.parametrize("size", [1, 2, 4, 9])
def test_blocks_of_rows_are_the_rows_of_the_whole(site: Site, spec: AdapterSpec, size: int) -> None:
    weight, adapter = torch.randn(site.weight_shape), adapter_of(site, spec)
    parts = []
    for start in range(0, 9, size):
        stop = min(9, start + size)
        block = adapter.block(start, stop)
        assert block is not None
        assert block.site.weight_shape == weight[start:stop].shape
        parts.append(block.delta(weight[start:stop]))
    torch.testing.assert_close(torch.cat(parts), adapter.delta(weight), **TOLERANCES[torch.float32])


@pytest.mark.parametrize(
    ("site", "spec"),
    [
        (SlicedSite(4, 6, slices=((3, True), (3, False))), SPEC),
        (ConvSite((4, 2, 3, 3)), SPEC),
        (LinearSite(6, 4, transposed=True), AdapterSpec(2, variant="dora")),
    ],
)
def test_rows_that_need_the_whole_have_no_block(site: Site, spec: AdapterSpec) -> None:
    assert adapter_of(site, spec).block(0, 2) is None
