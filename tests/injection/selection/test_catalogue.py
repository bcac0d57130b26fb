"""What `targets` counts is what `inject` adds."""

from __future__ import annotations

import pytest
from torch import nn
from transformers.pytorch_utils import Conv1D

import lorakit as lora

LAYERS = {
    "linear": lambda: nn.Linear(5, 7),
    "Conv1D": lambda: Conv1D(7, 5),
    "embedding": lambda: nn.Embedding(11, 5),
    "conv1d": lambda: nn.Conv1d(4, 6, 3),
    "conv2d, oblong": lambda: nn.Conv2d(4, 6, (1, 3)),
    "conv3d": lambda: nn.Conv3d(4, 6, 2),
    "conv1d, grouped": lambda: nn.Conv1d(8, 12, 3, groups=4),
    "conv2d, grouped": lambda: nn.Conv2d(8, 12, 3, groups=2),
    "conv3d, grouped": lambda: nn.Conv3d(8, 12, 2, groups=4),
    "conv1d, depthwise": lambda: nn.Conv1d(8, 8, 3, groups=8),
    "conv2d, depthwise": lambda: nn.Conv2d(8, 16, 3, groups=8),
    "conv3d, depthwise": lambda: nn.Conv3d(4, 4, 2, groups=4),
    "attention": lambda: nn.MultiheadAttention(6, 2),
}


@pytest.mark.parametrize("r", [8, 16])
@pytest.mark.parametrize("kind", LAYERS)
def test_parameters_are_those_that_inject_adds(kind: str, r: int) -> None:
    model = nn.ModuleDict({"layer": LAYERS[kind]()})
    counted = sum(group.parameters for group in lora.targets(model, r).groups)
    lora.inject(model, lora.LoraConfig(r=r, target_modules=["layer"]))
    added = sum(p.numel() for name, p in model.named_parameters() if "lora_" in name)
    assert counted == added


def test_layers_of_one_shape_and_other_groups_are_counted_apart() -> None:
    layers = nn.Conv1d(8, 8, 1), nn.Conv1d(8, 8, 1), nn.Conv1d(4, 8, 2, groups=2)
    groups = lora.targets(nn.ModuleList(layers), r=2).groups
    assert [(group.count, group.parameters) for group in groups] == [(2, 64), (1, 16)]


def test_a_rank_that_the_groups_do_not_divide_is_refused_as_inject_refuses_it() -> None:
    model = nn.ModuleDict({"depthwise": nn.Conv2d(32, 32, 3, groups=32)})
    found = lora.targets(model, r=8)
    reason = "has groups=32; r=8 must be a multiple of it"
    assert found.groups == ()
    assert found.refused == {"depthwise": reason}
    with pytest.raises(lora.errors.TargetError, match=reason):
        lora.inject(model, lora.LoraConfig(r=8, target_modules=["depthwise"]))
    assert lora.targets(model, r=32).groups[0].parameters == 320
