"""Turning a torch module into an adapted one with given factors."""

from __future__ import annotations

import copy

import accelerate
import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import TargetError
from lorakit.layers import refusals
from lorakit.layers.conversion import adapt
from lorakit.variants import AdapterSpec
from tests.tolerances import EXACT


def test_factors_in_loralibs_form_may_have_a_rank_that_the_groups_do_not_divide():
    constructed = lora.Conv2d(4, 8, 3, r=3, groups=2)
    nn.init.normal_(constructed.lora_B)
    plain = nn.Conv2d(4, 8, 3, groups=2)
    plain.load_state_dict(
        {name: v for name, v in constructed.state_dict().items() if "lora_" not in name}
    )
    factors = {name: copy.deepcopy(t) for name, t in constructed.adapter.tensors.items()}
    x = torch.randn(2, 4, 5, 5)
    assert_close(adapt(plain, AdapterSpec(3), tensors=factors)(x), constructed(x), **EXACT)


def test_a_forward_on_the_instance_is_refused() -> None:
    """It would run instead of the adapter's: accelerate's hooks, a patched forward."""
    plain, hooked = nn.Linear(4, 4), nn.Linear(4, 4)
    hooked.forward = lambda x: x  # type: ignore[method-assign]
    assert refusals.refusal(plain) is None
    reason = refusals.refusal(hooked)
    assert reason is not None
    assert "device_map" in reason
    assert "remove_hook_from_module" in reason
    with pytest.raises(TargetError, match="has a forward overridden on the instance"):
        lora.inject(nn.Sequential(hooked), lora.LoraConfig(target_modules=["0"]))


def test_a_layer_under_accelerate_s_hook_is_refused() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    accelerate.hooks.add_hook_to_module(model[0], accelerate.hooks.ModelHook())
    with pytest.raises(TargetError, match="device_map"):
        lora.inject(model, lora.LoraConfig(target_modules=["0"]))
    accelerate.hooks.remove_hook_from_module(model[0])
    assert "forward" in model[0].__dict__  # the class's own stays behind, and must not act either
    lora.inject(model, lora.LoraConfig(target_modules=["0"], init_lora_weights=False))
    x = torch.ones(1, 4)
    adapted = model(x)
    lora.eject(model)
    assert (adapted - model(x)).abs().max() > 1e-3
