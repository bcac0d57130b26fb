"""A linear layer with DoRA: the life of its cache, its state, and how it starts."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import lorakit as lora
from tests.tolerances import EXACT, TOLERANCES

FLOAT32 = TOLERANCES[torch.float32]


def layer(**options) -> lora.Linear:
    """One that has learned something."""
    made = lora.Linear(8, 12, r=2, lora_alpha=3, variant="dora", **options)
    with torch.no_grad():
        for tensor in made.adapter_tensors():
            tensor.add_(torch.randn_like(tensor) * 0.3)
    return made.eval()


def written_out(dora: lora.Linear) -> torch.Tensor:
    """W', laid out (out, in)."""
    weight = dora.base_weight.t() if dora.fan_in_fan_out else dora.base_weight
    v = weight + dora.scaling * dora.lora_B @ dora.lora_A
    return dora.lora_magnitude_vector[:, None] * v / v.norm(dim=1, keepdim=True)


@pytest.mark.parametrize("options", [{}, {"fan_in_fan_out": True}, {"bias": False}])
def test_merged_and_unmerged_outputs_equal_the_definition(options):
    dora, x = layer(**options), torch.randn(3, 8)
    expected = nn.functional.linear(x, written_out(dora), dora.bias)
    assert_close(dora(x), expected, **FLOAT32)
    with torch.no_grad():
        assert_close(dora(x), expected, **FLOAT32)
    assert dora.merged


def test_the_constructor_adds_a_magnitude_that_changes_nothing():
    torch.manual_seed(0)
    dora = lora.Linear(8, 12, r=2, variant="dora")
    torch.manual_seed(0)
    plain, x = nn.Linear(8, 12), torch.randn(3, 8)
    assert_close(dora(x), plain(x), **EXACT)
    assert dora.spec.variant == "dora"
    assert dora.lora_magnitude_vector.shape == (12,)
    assert "lora_magnitude_vector" not in lora.Linear(8, 12, r=0, variant="dora").state_dict()


def change_in_place(dora):
    with torch.no_grad():
        dora.lora_magnitude_vector.mul_(2)


def change_by_optimizer(dora):
    dora.lora_magnitude_vector.grad = torch.ones(12)
    torch.optim.AdamW([dora.lora_magnitude_vector], lr=0.5, fused=True).step()


def change_parameter(dora):
    dora.lora_magnitude_vector = nn.Parameter(dora.lora_magnitude_vector.detach() * 2)


def change_data(dora):
    dora.lora_magnitude_vector.data = dora.lora_magnitude_vector.data * 2


def change_by_loading(dora):
    m = dora.lora_magnitude_vector.detach()
    dora.load_state_dict({"lora_magnitude_vector": m * 2}, strict=False)


@pytest.mark.parametrize(
    "change",
    [change_in_place, change_by_optimizer, change_parameter, change_data, change_by_loading],
)
def test_cache_is_dropped_when_the_magnitude_changes(change):
    dora, x = layer(), torch.randn(3, 8)
    with torch.no_grad():
        before = dora(x)
        assert dora.merged
    change(dora)
    with torch.no_grad():
        after = dora(x)
    assert not torch.allclose(before, after)
    assert_close(after, nn.functional.linear(x, written_out(dora), dora.bias), **FLOAT32)


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compute_the_same(copied):
    dora, x = layer(), torch.randn(3, 8)
    twin = copied(dora)
    assert_close(twin(x), dora(x), **EXACT)
    assert twin.state_dict().keys() == dora.state_dict().keys()
    assert twin.lora_magnitude_vector is not dora.lora_magnitude_vector


def test_trainable_tensors_and_state_are_those_of_the_adapter():
    model = nn.Sequential(layer(), nn.Linear(12, 2))
    lora.mark_only_lora_as_trainable(model)
    names = {name for name, p in model.named_parameters() if p.requires_grad}
    assert names == {"0.lora_A", "0.lora_B", "0.lora_magnitude_vector"}
    assert lora.lora_state_dict(model).keys() == names


def test_a_base_that_is_loaded_later_brings_its_norms_to_an_untrained_adapter():
    dora, base, x = lora.Linear(8, 12, r=2, variant="dora"), nn.Linear(8, 12), torch.randn(3, 8)
    dora.load_state_dict(base.state_dict(), strict=False)
    assert_close(dora(x), base(x), **EXACT)


def test_a_base_that_is_loaded_later_leaves_what_was_learned():
    dora = layer()
    before = [tensor.detach().clone() for tensor in dora.adapter_tensors()]
    dora.load_state_dict(nn.Linear(8, 12).state_dict(), strict=False)
    for tensor, value in zip(dora.adapter_tensors(), before, strict=True):
        assert_close(tensor.detach(), value, **EXACT)


def test_a_model_from_the_meta_device_starts_as_the_base_that_is_loaded():
    with torch.device("meta"):
        model = nn.Sequential(nn.Linear(8, 12))
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"], use_dora=True))
    model.to_empty(device="cpu")
    base, x = nn.Sequential(nn.Linear(8, 12)), torch.randn(3, 8)
    model.load_state_dict(base.state_dict(), strict=False)
    assert_close(model(x), base(x), **EXACT)


def test_resetting_starts_anew():
    dora, x = layer(), torch.randn(3, 8)
    dora.reset_lora_parameters()
    with lora.disabled(nn.Sequential(dora)):
        base = dora(x)
    assert_close(dora(x), base, **EXACT)
    dora.reset_parameters()
    assert_close(dora(x), nn.functional.linear(x, dora.weight, dora.bias), **EXACT)
