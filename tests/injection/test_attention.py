"""torch's own attention and transformer layers read weights instead of calling forward."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import peft
import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.errors import TargetError
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from tests.injection.checks import assert_same, gradients, snapshot
from tests.tolerances import EXACT, TOLERANCES

CLOSE = TOLERANCES[torch.float32]


class Attention(nn.Module):
    def __init__(self, **settings: Any) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(8, 2, **{"batch_first": True} | settings)

    def forward(self, x: Tensor, context: Tensor | None = None) -> Tensor:
        context = x if context is None else context
        out: Tensor = self.attn(x, context, context, need_weights=False)[0]
        return out


class Decoding(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerDecoderLayer(8, 2, 12, 0.0, batch_first=True)
        self.decoder = nn.TransformerDecoder(layer, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.decoder(x, x.flip(1))
        return out


class Encoding(nn.Module):
    """An encoder with a padding mask, which its fast path turns into a nested tensor."""

    def __init__(self, nested: bool) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(8, 2, 12, 0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=nested)

    def forward(self, x: Tensor) -> Tensor:
        padding = torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
        out: Tensor = self.encoder(x, src_key_padding_mask=padding)
        return out[:, :3]


def encoder_layer(**settings: Any) -> nn.Module:
    fixed = {"dropout": 0.0, "batch_first": True}
    return nn.Sequential(nn.TransformerEncoderLayer(8, 2, 12, **fixed | settings))


MODELS: dict[str, Callable[[], nn.Module]] = {
    "attention": Attention,
    "attention, no bias": lambda: Attention(bias=False),
    "attention, bias_kv": lambda: Attention(add_bias_kv=True, add_zero_attn=True),
    "attention, sequence first": lambda: Attention(batch_first=False),
    "encoder layer": encoder_layer,
    "encoder layer, norm first": lambda: encoder_layer(norm_first=True),
    "encoder layer, gelu": lambda: encoder_layer(activation="gelu"),
    "encoder": lambda: Encoding(nested=False),
    "decoder layers": Decoding,
}
ALL_PARTS = ["attn", "self_attn", "multihead_attn", "linear1", "linear2"]


def parts_of(model: nn.Module) -> list[str]:
    present = {name.rpartition(".")[2] for name, _ in model.named_modules()}
    return [part for part in ALL_PARTS if part in present]


def built(name: str, **fields: Any) -> tuple[nn.Module, Tensor]:
    model = MODELS[name]()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.4)
    config = {"r": 2, "init_lora_weights": False, "target_modules": parts_of(model)} | fields
    lora.inject(model, lora.LoraConfig(**config))
    return model, torch.randn(2, 5, 8)


def plain(name: str, model: nn.Module) -> nn.Module:
    """The slow definition: a plain model whose weights are W + scaling * B A."""
    expected = MODELS[name]().train(model.training)
    expected.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.endswith(("lora_A", "lora_B"))}
    )
    for key, layer in lora_layers(model):
        attention = isinstance(layer, nn.MultiheadAttention)
        weight = expected.get_submodule(key)._parameters[
            "in_proj_weight" if attention else "weight"
        ]
        with torch.no_grad():
            weight += layer.lora_alpha / layer.r * layer.lora_B @ layer.lora_A
    return expected


@pytest.mark.parametrize("name", MODELS)
def test_base_outputs_are_equal_right_after_injection(name: str) -> None:
    """Frozen before, since torch takes another path for weights that require a gradient."""
    model = MODELS[name]().eval().requires_grad_(False)
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        expected = model(x)
        lora.inject(model, lora.LoraConfig(r=2, target_modules=parts_of(model)))
        assert_close(model(x), expected, **EXACT)


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("training", [True, False])
def test_every_adapter_gets_the_gradient_of_the_definition(name: str, training: bool) -> None:
    """loralib's layers get none here, and act only once they are merged (B21)."""
    model, x = built(name)
    model.train(training)
    model(x).square().sum().backward()
    found = gradients(model)
    reference = plain(name, model)
    reference(x).square().sum().backward()
    for key, layer in lora_layers(model):
        attention = isinstance(layer, nn.MultiheadAttention)
        weight = reference.get_submodule(key)._parameters[
            "in_proj_weight" if attention else "weight"
        ]
        slope = weight.grad * layer.scaling  # of B A
        assert_close(found[f"{key}.lora_A"], layer.lora_B.T @ slope, rtol=1e-4, atol=1e-4)
        assert_close(found[f"{key}.lora_B"], slope @ layer.lora_A.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", MODELS)
def test_training_evaluation_and_the_fast_path_agree(name: str) -> None:
    model, x = built(name)
    expected = plain(name, model.train())(x)
    assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    model.eval()
    assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        with lora.merged(model):
            assert all(layer.merged for _, layer in lora_layers(model))
            assert_close(model(x), expected, rtol=1e-4, atol=1e-4)
        assert_close(model(x), plain(name, model)(x), **CLOSE)
    with torch.inference_mode():
        assert_close(model(x), expected, rtol=1e-4, atol=1e-4)


def test_nested_tensors_of_the_fast_path_see_the_adapter() -> None:
    model = Encoding(nested=True).eval()
    lora.inject(
        model, lora.LoraConfig(r=2, target_modules=parts_of(model), init_lora_weights=False)
    )
    x = torch.randn(2, 5, 8)
    slow = model(x)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.filterwarnings("ignore", "The PyTorch API of nested tensors", UserWarning)
        assert_close(model(x), slow.detach(), **CLOSE)


@pytest.mark.parametrize("name", MODELS)
def test_folded_outputs_are_the_same(name: str) -> None:
    model, x = built(name)
    model.eval()
    types = {key: type(module) for key, module in MODELS[name]().named_modules()}
    with torch.no_grad():
        expected = model(x)
        lora.fold(model)
        assert_close(model(x), expected, **CLOSE)
    assert {key: type(module) for key, module in model.named_modules()} == types


@pytest.mark.parametrize("name", MODELS)
def test_ejecting_gives_everything_back(name: str) -> None:
    model = MODELS[name]().eval()
    before = snapshot(model)
    lora.inject(model, lora.LoraConfig(r=2, target_modules=parts_of(model), bias="all"))
    model(torch.randn(2, 5, 8)).sum().backward()
    lora.eject(model)
    assert_same(before, snapshot(model))


@pytest.mark.parametrize("name", MODELS)
def test_disabled_is_the_base(name: str) -> None:
    model, x = built(name)
    base = MODELS[name]().eval().requires_grad_(False)
    base.load_state_dict(model.state_dict(), strict=False)
    model.eval()
    with torch.no_grad(), lora.disabled(model):
        assert_close(model(x), base(x), **EXACT)


def test_names_and_shapes_are_those_of_the_plain_module() -> None:
    model, _ = built("encoder layer")
    plain_names = MODELS["encoder layer"]().state_dict().keys()
    factors = {
        "0.self_attn.lora_A": (2, 8), "0.self_attn.lora_B": (24, 2),
        "0.self_attn.out_proj.lora_A": (2, 8), "0.self_attn.out_proj.lora_B": (8, 2),
        "0.linear1.lora_A": (2, 8), "0.linear1.lora_B": (12, 2),
        "0.linear2.lora_A": (2, 12), "0.linear2.lora_B": (8, 2),
    }  # fmt: skip
    state = model.state_dict()
    assert state.keys() == plain_names | factors.keys()
    assert {key: tuple(state[key].shape) for key in factors} == factors


def test_the_parameter_stays_the_base_weight_while_reading_gives_the_sum() -> None:
    model, _ = built("attention")
    base = model.attn._parameters["in_proj_weight"]
    before = base.detach().clone()
    sum_ = base + model.attn.delta_weight()
    assert_close(model.attn.in_proj_weight, sum_, **CLOSE)
    assert model.attn.in_proj_weight.requires_grad
    assert dict(model.named_parameters())["attn.in_proj_weight"] is base
    assert_close(base.detach(), before, **EXACT)
    assert model.attn.out_proj.weight is not model.attn.out_proj._parameters["weight"]


def test_the_output_projection_can_be_adapted_alone() -> None:
    model, x = built("attention", target_modules=["out_proj"])
    assert [name for name, _ in lora_layers(model)] == ["attn.out_proj"]
    assert not isinstance(model.attn, AdapterLayer)
    model(x).square().sum().backward()
    assert all(grad.abs().max() > 0 for grad in gradients(model).values())
    model.eval()
    with torch.no_grad():
        assert_close(model(x), plain("attention", model)(x), **CLOSE)


def test_the_output_projection_can_be_left_out() -> None:
    model, x = built("attention", target_modules=["attn"], exclude_modules=["out_proj"])
    assert [name for name, _ in lora_layers(model)] == ["attn"]
    model.eval()
    with torch.no_grad():
        assert_close(model(x), plain("attention", model)(x), **CLOSE)


@pytest.mark.parametrize("target", ["attn", "out_proj"])
def test_dropout_is_refused(target: str) -> None:
    """The attention's input never passes through the adapter."""
    model = Attention()
    before = snapshot(model)
    with pytest.raises(TargetError, match="lora_dropout must be 0") as caught:
        lora.inject(model, lora.LoraConfig(r=2, target_modules=[target], lora_dropout=0.1))
    assert any("attn" in problem for problem in caught.value.problems)
    assert_same(before, snapshot(model))


def test_dropout_on_the_feed_forward_of_an_encoder_layer_works() -> None:
    model, x = built("encoder layer", target_modules=["linear1", "linear2"], lora_dropout=0.5)
    model.train()
    assert not torch.equal(model(x), model(x))
    model.eval()
    with torch.no_grad():
        assert_close(model(x), plain("encoder layer", model)(x), **CLOSE)


@pytest.mark.parametrize("widths", [{"kdim": 6}, {"vdim": 6}])
def test_other_widths_of_key_or_value_are_refused(widths: dict[str, int]) -> None:
    model = Attention(**widths)
    with pytest.raises(
        TargetError, match="kdim or vdim differs from embed_dim, so it has no in_proj_weight"
    ):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["attn"]))


@pytest.mark.parametrize("widths", [{"kdim": 6}, {"vdim": 6}])
def test_the_output_projection_of_other_widths_can_be_adapted(widths: dict[str, int]) -> None:
    attention = nn.MultiheadAttention(8, 2, batch_first=True, **widths)
    model = nn.ModuleDict({"attn": attention})
    lora.inject(model, lora.LoraConfig(r=2, target_modules=["out_proj"], init_lora_weights=False))
    width = {"kdim": 8, "vdim": 8} | widths
    inputs = (
        torch.randn(2, 5, 8),
        torch.randn(2, 4, width["kdim"]),
        torch.randn(2, 4, width["vdim"]),
    )
    attention(*inputs)[0].square().sum().backward()
    assert all(grad.abs().max() > 0 for grad in gradients(model).values())


@pytest.mark.parametrize("scale", [{}, {"use_rslora": True}])
@pytest.mark.parametrize("training", [True, False])
def test_outputs_and_gradients_equal_those_of_peft(scale: dict[str, bool], training: bool) -> None:
    """PEFT 0.21 adds the output projection's update twice, so its B is half of ours there."""
    fields = {"r": 2, "lora_alpha": 6, "target_modules": ["attn"], **scale}
    ours, theirs = Attention().train(training), Attention()
    theirs.load_state_dict(ours.state_dict())
    lora.inject(ours, lora.LoraConfig(init_lora_weights=False, **fields))
    wrapped = peft.get_peft_model(theirs, peft.LoraConfig(**fields)).train(training)
    inner, outer = theirs.attn, theirs.attn.base_layer.out_proj
    with torch.no_grad():
        for layer, pair, share in ((ours.attn, inner, 1.0), (ours.attn.out_proj, outer, 0.5)):
            pair.lora_A["default"].weight.copy_(layer.lora_A)
            pair.lora_B["default"].weight.copy_(share * layer.lora_B)
    x, context = torch.randn(2, 5, 8), torch.randn(2, 4, 8)
    y, expected = ours(x, context), wrapped(x, context)
    assert_close(y, expected, **CLOSE)
    y.square().sum().backward()
    expected.square().sum().backward()
    for factor in ("lora_A", "lora_B"):
        grad = getattr(inner, factor)["default"].weight.grad
        assert_close(getattr(ours.attn, factor).grad, grad, rtol=1e-4, atol=1e-4)
    with torch.no_grad():
        assert_close(ours.eval()(x, context), wrapped(x, context), **CLOSE)
        with lora.merged(ours):
            assert_close(ours(x, context), wrapped(x, context), **CLOSE)
