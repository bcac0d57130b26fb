"""Where adapters stand in a block that has no known layout, and where none can stand."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.testing import assert_close

from lorakit.errors import ConfigError, TargetError
from lorakit.methods import METHODS
from tests.tolerances import MODEL


class Named(nn.Module):
    """A block with names that no layout has."""

    def __init__(self) -> None:
        super().__init__()
        self.mixing = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.widen, self.narrow = nn.Linear(8, 16), nn.Linear(16, 8)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.mixing(x, x, x, need_weights=False)[0]
        return x + self.narrow(self.widen(self.norm(x)).relu())


class Stack(nn.Module):
    def __init__(self, kind: Callable[[], nn.Module] = Named) -> None:
        super().__init__()
        self.layers = nn.ModuleList([kind() for _ in range(2)])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = layer(x)
        return x


def apply(model: nn.Module, name: str = "houlsby", **settings: object) -> object:
    method = METHODS[name]
    return method.apply(model, method.config_type(bottleneck=2, **settings))


def test_a_block_of_an_unknown_layout_is_an_error_with_its_parts():
    with pytest.raises(
        TargetError,
        match=r"attention_output is not known of layers\.0 \(Named\); name it in the settings, as "
        r"it is called in the block: mixing, mixing\.out_proj, norm, widen, narrow",
    ):
        apply(Stack())


def test_names_in_the_settings_place_the_adapters():
    model, x = Stack(), torch.randn(2, 3, 8)
    base = model(x)
    report = apply(model, attention_output="mixing", mlp_output="narrow")
    assert report.adapter_parameters == 2 * 2 * (2 * 8 * 2 + 2 + 8)
    assert_close(model(x), base, **MODEL)
    for place in ("mixing", "narrow"):
        model.layers[0].get_submodule(place).adapter.up_bias.data.fill_(1)
        assert not torch.allclose(model(x), base)
        model.layers[0].get_submodule(place).adapter.up_bias.data.fill_(0)


def test_a_name_that_a_block_lacks_is_an_error_with_the_nearest():
    with pytest.raises(TargetError, match=r"mlp_output is 'narow', .* \(did you mean 'narrow'"):
        apply(Stack(), attention_output="mixing", mlp_output="narow")


def test_a_module_that_its_parent_never_calls_is_refused():
    with pytest.raises(
        TargetError, match=r"out_proj cannot have an adapter: it has its weight read by Multihead"
    ):
        apply(Stack(), attention_output="mixing.out_proj", mlp_output="narrow")


def test_a_layer_of_torch_that_skips_its_modules_in_inference_is_refused():
    model = Stack(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True))
    with pytest.raises(TargetError, match=r"is part of an nn.TransformerEncoderLayer"):
        apply(model, attention_output="dropout1", mlp_output="dropout2")


def test_a_forward_that_was_replaced_is_refused():
    model = Stack()
    model.layers[1].narrow.forward = lambda x: x
    with pytest.raises(TargetError, match=r"layers\.1\.narrow cannot have an adapter: it has a f"):
        apply(model, attention_output="mixing", mlp_output="narrow")
    assert not any(name.endswith("adapter") for name, _ in model.named_modules())


def test_a_layer_of_torch_has_an_adapter_behind_it_that_runs_in_inference():
    model, x = (
        Stack(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)),
        torch.ones(2, 3, 8),
    )
    apply(model.eval(), "lin")
    with torch.no_grad():
        base = model(x)
        model.layers[1].adapter.up_bias.fill_(1)
        assert_close(model(x), base + 1)


def test_a_block_that_may_be_post_ln_or_pre_ln_is_an_error_that_says_what_to_name():
    with pytest.raises(
        TargetError,
        match=r"Whether layers\.0 \(Named\) is post-LN or pre-LN is not known; .* mlp_norm",
    ):
        apply(Stack(), "pfeiffer")


def test_pfeiffers_adapter_stands_behind_the_norm_that_is_named_or_behind_a_pre_ln_block():
    x = torch.randn(2, 3, 8)
    places = {"norm": "layers.0.norm", "pre-ln": "layers.0"}
    for named, place in places.items():
        model = Stack()
        apply(model, "pfeiffer", mlp_norm=named)
        assert "adapter" in dict(model.get_submodule(place).named_children())
        base = model(x)
        model.layers[1].get_submodule(named.replace("pre-ln", "")).adapter.up_bias.data.copy_(
            torch.arange(8)
        )
        assert not torch.allclose(model(x), base)


def test_a_layer_that_registers_an_adapter_of_its_own_is_refused():
    model = Stack()
    model.layers[0].add_module("adapter", nn.Linear(8, 8))
    with pytest.raises(
        TargetError, match=r"layers\.0 cannot have .*: it has an attribute named adapter"
    ):
        apply(model, "lin")


def test_one_module_for_both_outputs_is_refused():
    with pytest.raises(ConfigError, match="mlp_output are one module, 'narrow'"):
        apply(Stack(), attention_output="narrow", mlp_output="narrow")


@pytest.mark.parametrize("name", ["houlsby", "pfeiffer", "lin"])
def test_layers_that_are_one_module_share_their_adapters(name):
    model, x = Stack(), torch.randn(2, 3, 8)
    model.layers[1] = model.layers[0]
    names = {"attention_output": "mixing", "mlp_output": "narrow"}
    report = apply(model, name, **(names if name == "houlsby" else {}), **PRE_LN.get(name, {}))
    places = 2 if name == "houlsby" else 1
    norms = 2 * 8 if name == "lin" else 0
    assert report.adapter_parameters == places * (2 * 8 * 2 + 2 + 8) + norms
    adapters = [m for n, m in model.named_modules() if n.endswith(".adapter")]
    assert len(adapters) == places
    calls = []
    adapters[0].register_forward_hook(lambda *_: calls.append(1))
    model(x)
    assert len(calls) == 2


def test_adapter_drop_of_layers_that_are_one_module_is_refused():
    model = Stack()
    model.layers[1] = model.layers[0]
    with pytest.raises(TargetError, match=r"layers.0 runs 2 times in a forward"):
        apply(model, "adapter_drop", **PRE_LN["adapter_drop"])


PRE_LN = {name: {"mlp_norm": "pre-ln"} for name in ("pfeiffer", "adapter_drop")}
