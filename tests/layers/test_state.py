"""loralib's two functions on a model, beyond what loralib does."""

from __future__ import annotations

import pytest
from torch import nn

import lorakit as lora


@pytest.mark.parametrize("last", [False, True], ids=["adapted first", "adapted last"])
def test_a_tied_bias_trains_if_one_of_its_names_does(last: bool) -> None:
    layers = [lora.Linear(4, 4, r=2), nn.Linear(4, 4)]
    first, second = reversed(layers) if last else layers
    second.bias = first.bias
    model = nn.Sequential(first, second)
    lora.mark_only_lora_as_trainable(model, "lora_only")
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        *(f"{int(last)}.{leaf}" for leaf in ("lora_A", "lora_B")),
        "0.bias",
    }
