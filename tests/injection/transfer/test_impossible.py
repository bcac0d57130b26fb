"""Bundles of what no layer can have are refused before anything changes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import MismatchError
from lorakit.methods import load
from lorakit.variants import AdapterSpec, ConvSite, ModuleAdapter, SlicedSite
from lorakit.variants.dora import MAGNITUDE


def test_dora_of_slices_is_refused() -> None:
    site = SlicedSite(8, 8, False, ((4, True), (4, False)))
    a, b = map(torch.randn, site.factor_shapes(2))
    tensors = {"lora_A": a, "lora_B": b, MAGNITUDE: torch.ones(8)}
    adapter = ModuleAdapter(AdapterSpec(2, variant="dora"), tensors, site)
    bundle = AdapterBundle(LoraConfig(r=2, target_modules=["0"], use_dora=True), {"0": adapter})
    with pytest.raises(MismatchError, match="is adapted in slices"):
        load(nn.Sequential(nn.Linear(8, 8)), bundle, "file")


def test_rank_that_the_groups_do_not_divide_is_refused() -> None:
    site = ConvSite((4, 2, 2, 2), groups=2)
    tensors = dict(zip(("lora_A", "lora_B"), map(torch.randn, site.factor_shapes(3)), strict=True))
    adapter = ModuleAdapter(AdapterSpec(3), tensors, site)
    bundle = AdapterBundle(LoraConfig(r=3, target_modules=["0"]), {"0": adapter})
    with pytest.raises(MismatchError, match="r=3 must be a multiple"):
        load(nn.Sequential(nn.Conv2d(4, 4, 2, groups=2)), bundle, "file")
