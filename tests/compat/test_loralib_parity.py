"""lorakit's layers beside loralib's: constructors, names, shapes, starting values, results.

Both libraries get the same state dict and the same input. What is compared are outputs in training
mode and merged in evaluation mode, every gradient by name, and whole steps of training.
"""

from __future__ import annotations

import inspect
import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import loralib
import pytest
import torch
import torch.nn.functional as F
from loralib.layers import ConvLoRA
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit.errors import ConfigError
from tests.tolerances import EXACT, TOLERANCES


@dataclass(frozen=True)
class Case:
    """One layer that loralib can make and run, and what to feed it."""

    kind: str
    positional: tuple[int, ...]
    shape: tuple[int, ...]
    """Shape of the input; an embedding takes row numbers."""
    keywords: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = [f"{k}={v}" for k, v in self.keywords.items() if k not in ("r", "lora_alpha")]
        return "-".join([self.kind, *options])

    def make(self, lib: ModuleType, dtype: torch.dtype = torch.float32) -> nn.Module:
        return getattr(lib, self.kind)(*self.positional, **self.keywords, dtype=dtype)

    def input(self, dtype: torch.dtype = torch.float32) -> Tensor:
        if self.kind == "Embedding":
            return torch.randint(self.positional[0], self.shape)
        return torch.randn(self.shape, dtype=dtype, requires_grad=True)


def cases(
    kind: str, positional: tuple[int, ...], shape: tuple[int, ...], *variants: dict[str, Any]
) -> list[Case]:
    common = {"r": 3, "lora_alpha": 5}
    return [Case(kind, positional, shape, common | variant) for variant in variants]


CASES = [
    *cases(
        "Linear",
        (6, 10),
        (4, 5, 6),
        {},
        {"bias": False},
        {"fan_in_fan_out": True},
        {"fan_in_fan_out": True, "bias": False},
        {"merge_weights": False},
        {"r": 0},
    ),
    *cases(
        "MergedLinear",
        (6, 12),
        (4, 5, 6),
        {"enable_lora": [True, False, True]},
        {"enable_lora": [False, True]},
        {"enable_lora": [True]},
        {"enable_lora": [True, True, True], "bias": False},
        {"enable_lora": [True, False, True], "fan_in_fan_out": True},
        {"enable_lora": [True, False, True], "fan_in_fan_out": True, "bias": False},
        {"enable_lora": [True, False, True], "merge_weights": False},
    ),
    *cases(
        "Embedding",
        (11, 6),
        (4, 7),
        {},
        {"padding_idx": 2},
        {"scale_grad_by_freq": True},
        {"merge_weights": False},
        {"r": 0},
    ),
    *cases("Conv1d", (4, 6, 1), (2, 4, 9), {}, {"stride": 2}, {"groups": 2}, {"bias": False}),
    *cases(
        "Conv2d",
        (4, 6, 3),
        (2, 4, 9, 8),
        {},
        {"bias": False},
        {"stride": 2, "padding": 1},
        {"dilation": 2},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": 2, "padding_mode": "reflect"},
        {"groups": 2},
        {"merge_weights": False},
        {"r": 0},
    ),
    *cases("Conv2d", (4, 6, 1), (2, 4, 5, 5), {"stride": 2}),
    *cases("Conv2d", (2, 4, 4), (2, 2, 9, 9), {"stride": 3}),
    *cases("Conv3d", (4, 6, 1), (2, 4, 3, 4, 5), {}, {"groups": 2}),
]
ALL = pytest.mark.parametrize("case", CASES, ids=str)
ADAPTED = [case for case in CASES if case.keywords["r"]]
WIDE = pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)


def plain_name(name: str) -> str:
    """loralib's name of a convolution's weight, `conv.weight`, as everyone else calls it."""
    return name.removeprefix("conv.")


def twins(case: Case, dtype: torch.dtype = torch.float32) -> tuple[nn.Module, nn.Module]:
    """loralib's layer with random values, and lorakit's with the same ones."""
    peer, layer = case.make(loralib, dtype), case.make(lorakit, dtype)
    with torch.no_grad():
        for parameter in peer.parameters():
            parameter.normal_(std=0.5)
    layer.load_state_dict(peer.state_dict())
    return peer, layer


def gradients(layer: nn.Module, x: Tensor, weights: Tensor) -> dict[str, Tensor | None]:
    """The gradient of a weighted sum of outputs, for every parameter and the input, by name."""
    layer.zero_grad()
    x.grad = None
    (layer(x) * weights).sum().backward()
    named = {plain_name(name): parameter.grad for name, parameter in layer.named_parameters()}
    return named | {"input": x.grad}


def assert_same_gradients(peer: nn.Module, layer: nn.Module, x: Tensor) -> None:
    weights = torch.randn_like(peer(x))
    expected, got = gradients(peer, x, weights), gradients(layer, x, weights)
    assert got.keys() == expected.keys()
    for name, gradient in expected.items():
        if gradient is None:
            assert got[name] is None, name
        else:
            assert_close(
                got[name],
                gradient,
                **TOLERANCES[gradient.dtype],
                msg=lambda m, n=name: f"gradient of {n}: {m}",
            )


# --- constructors


@pytest.mark.parametrize("kind", ["Linear", "MergedLinear", "Embedding"])
def test_constructor_takes_the_same_arguments(kind: str) -> None:
    assert_same_signature(getattr(loralib, kind).__init__, getattr(lorakit, kind).__init__)


@pytest.mark.parametrize("kind", ["Conv1d", "Conv2d", "Conv3d"])
def test_conv_constructor_takes_the_same_arguments(kind: str) -> None:
    assert_same_signature(ConvLoRA.__init__, getattr(lorakit, kind).__init__, "conv_module")


def assert_same_signature(
    expected: Callable[..., Any], got: Callable[..., Any], *omitted: str
) -> None:
    """The same parameters in the same order, with the same defaults; extra ones by keyword only."""
    theirs = inspect.signature(expected).parameters
    ours = inspect.signature(got).parameters
    positional = [p for p in ours.values() if p.kind is not inspect.Parameter.KEYWORD_ONLY]
    assert [p.name for p in positional] == [name for name in theirs if name not in omitted]
    for parameter in positional:
        assert parameter.kind == theirs[parameter.name].kind, parameter.name
        default = theirs[parameter.name].default
        expected_default = tuple(default) if isinstance(default, list) else default
        assert parameter.default == expected_default, parameter.name


@ALL
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_parameters_have_the_same_names_shapes_and_flags(case: Case, dtype: torch.dtype) -> None:
    def described(layer: nn.Module) -> dict[str, tuple[object, ...]]:
        return {
            plain_name(name): (parameter.shape, parameter.dtype, parameter.requires_grad)
            for name, parameter in layer.named_parameters()
        }

    peer, layer = case.make(loralib, dtype), case.make(lorakit, dtype)
    assert described(layer) == described(peer)
    assert set(layer.state_dict()) == {plain_name(name) for name in peer.state_dict()}


@pytest.mark.parametrize("case", ADAPTED, ids=str)
def test_attributes_are_the_same(case: Case) -> None:
    peer, layer = case.make(loralib), case.make(lorakit)
    for name in ("r", "lora_alpha", "scaling", "merge_weights", "merged"):
        assert getattr(layer, name) == getattr(peer, name), name


# --- starting values

LARGE = [
    Case("Linear", (100, 200), (), {"r": 64}),
    Case("MergedLinear", (100, 300), (), {"r": 64, "enable_lora": [True, False, True]}),
    Case("Embedding", (100, 200), (), {"r": 64}),
    Case("Conv2d", (32, 64, 3), (), {"r": 32}),
    Case("Conv2d", (32, 64, 3), (), {"r": 32, "groups": 4}),
    Case("Conv1d", (64, 64, 1), (), {"r": 64}),
]


def largest_gap(a: Tensor, b: Tensor) -> float:
    """Kolmogorov and Smirnov's statistic: the largest distance between two samples' shares."""
    a, b = a.flatten().sort().values, b.flatten().sort().values
    points = torch.cat([a, b])
    shares = [torch.searchsorted(s, points, right=True) / s.numel() for s in (a, b)]
    return float((shares[0] - shares[1]).abs().max())


@pytest.mark.parametrize("again", [False, True], ids=["constructed", "reset"])
@pytest.mark.parametrize("case", LARGE, ids=str)
def test_starting_values_have_the_same_distribution(case: Case, again: bool) -> None:
    peer, layer = case.make(loralib), case.make(lorakit)
    if again:
        for each in (peer, layer):
            nn.init.ones_(each.lora_A)
            nn.init.ones_(each.lora_B)
            each.reset_parameters()
    ours = dict(layer.named_parameters())
    for name, expected in peer.named_parameters():
        got = ours[plain_name(name)].detach()
        if expected.abs().max() == 0:
            assert got.abs().max() == 0, name
            continue
        # One pair of samples in a thousand from one distribution has a larger gap.
        bound = 1.95 * math.sqrt(2 / expected.numel())
        assert largest_gap(got, expected.detach()) < bound, name
        if name != "lora_B" and case.kind != "Embedding":
            assert got.abs().max() <= expected.detach().abs().max() * 1.05, name


def test_largest_gap_tells_distributions_apart() -> None:
    uniform, normal = torch.rand(6400) * 2 - 1, torch.randn(6400) * 3**-0.5
    assert largest_gap(uniform, torch.rand(6400) * 2 - 1) < 1.95 * math.sqrt(2 / 6400)
    assert largest_gap(uniform, normal) > 1.95 * math.sqrt(2 / 6400)


# --- values


@WIDE
@ALL
def test_training_output_and_gradients_are_the_same(case: Case, dtype: torch.dtype) -> None:
    peer, layer = twins(case, dtype)
    x = case.input(dtype)
    assert_close(layer(x), peer(x), **TOLERANCES[dtype])
    assert_same_gradients(peer, layer, x)


@WIDE
@ALL
def test_evaluation_output_is_the_same(case: Case, dtype: torch.dtype) -> None:
    peer, layer = twins(case, dtype)
    x = case.input(dtype)
    peer.eval()
    layer.eval()
    with torch.no_grad():
        assert_close(layer(x), peer(x), **TOLERANCES[dtype])
    assert layer.merged == (peer.merged and peer.r > 0)
    peer.train()
    layer.train()
    assert layer.merged is peer.merged is False
    with torch.no_grad():
        assert_close(layer(x), peer(x), **TOLERANCES[dtype])


@pytest.mark.parametrize("case", ADAPTED, ids=str)
@pytest.mark.parametrize("training", [True, False], ids=["train", "eval"])
def test_bfloat16_output_is_as_near_to_the_truth(case: Case, training: bool) -> None:
    """Rounding differs, so both are held against the same layer in float64."""
    peer, layer = twins(case, torch.bfloat16)
    exact = case.make(lorakit, torch.float64)
    exact.load_state_dict(layer.state_dict())
    x = case.input(torch.bfloat16)
    with torch.no_grad():
        truth = exact(x if case.kind == "Embedding" else x.double())
        peer.train(training)
        ours, theirs = layer.train(training)(x), peer(x)
    assert ours.dtype == theirs.dtype == torch.bfloat16
    error, allowed = ((y.double() - truth).norm() for y in (ours, theirs))
    assert error <= 1.25 * allowed
    assert error <= TOLERANCES[torch.bfloat16]["rtol"] * truth.norm()


@pytest.mark.parametrize("case", ADAPTED, ids=str)
def test_training_takes_the_same_steps(case: Case) -> None:
    peer, layer = twins(case, torch.float64)
    x = case.input(torch.float64).detach()
    target = torch.randn_like(peer(x))
    optimizers = [torch.optim.AdamW(m.parameters(), lr=0.05) for m in (peer, layer)]
    for _ in range(5):
        for module, optimizer in zip((peer, layer), optimizers, strict=True):
            module.eval()
            with torch.no_grad():
                module(x)
            module.train()
            optimizer.zero_grad()
            F.mse_loss(module(x), target).backward()
            optimizer.step()
    ours = layer.state_dict()
    for name, value in peer.state_dict().items():
        # loralib's weight has been through five cycles of += and -=.
        assert_close(ours[plain_name(name)], value, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("lib", [loralib, lorakit], ids=lambda lib: lib.__name__)
@pytest.mark.parametrize("kind", ["Linear", "MergedLinear"])
def test_dropout_scales_and_drops_inputs_of_a_alone(lib: ModuleType, kind: str) -> None:
    width, p = 64, 0.25
    options = {"enable_lora": [True]} if kind == "MergedLinear" else {}
    layer = getattr(lib, kind)(width, width, r=width, lora_alpha=width, lora_dropout=p, **options)
    with torch.no_grad():
        layer.lora_A.copy_(torch.eye(width))
        layer.lora_B.copy_(torch.eye(width))
    x = torch.ones(200, width)
    update = layer(x) - F.linear(x, layer.weight, layer.bias)
    kept = update > 0.5
    assert_close(update, kept / (1 - p), **TOLERANCES[torch.float32])
    assert kept.float().mean().item() == pytest.approx(1 - p, abs=0.02)
    layer.eval()
    merged = F.linear(x, layer.weight, layer.bias) + (x if lib is lorakit else 0)
    assert_close(layer(x), merged, **TOLERANCES[torch.float32])


# --- state dicts


def networks(lib: ModuleType) -> nn.Sequential:
    """A model of every kind of layer that loralib can run."""
    return nn.Sequential(
        OrderedDict(
            table=lib.Embedding(11, 8, r=2, padding_idx=0),
            qkv=lib.MergedLinear(8, 24, r=2, enable_lora=[True, False, True]),
            up=lib.Linear(24, 16, r=2, lora_alpha=4, fan_in_fan_out=True),
            norm=nn.LayerNorm(16),
            fold=nn.Unflatten(1, (2, 2)),
            conv=lib.Conv2d(2, 4, 3, r=2, padding=1),
            flat=nn.Flatten(),
            head=nn.Linear(4 * 2 * 16, 3),
        )
    )


def network_input() -> Tensor:
    return torch.randint(1, 11, (5, 4))


def randomised(model: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.3)
    return model


def test_loralib_state_dict_loads_strictly() -> None:
    peer, model, ids = randomised(networks(loralib)), networks(lorakit), network_input()
    state = peer.state_dict()
    keys = list(state)
    assert "conv.conv.weight" in keys
    model.load_state_dict(state)
    assert list(state) == keys
    assert_close(model(ids), peer(ids), **TOLERANCES[torch.float32])


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_loralib_adapter_loads_over_a_checkpoint(bias: str) -> None:
    peer, model, ids = randomised(networks(loralib)), networks(lorakit), network_input()
    model.load_state_dict(peer.state_dict())
    randomise_adapter_and_biases(peer, bias)
    result = model.load_state_dict(loralib.lora_state_dict(peer, bias), strict=False)
    assert result.unexpected_keys == []
    assert_close(model(ids), peer(ids), **TOLERANCES[torch.float32])


def randomise_adapter_and_biases(model: nn.Module, bias: str) -> None:
    """New values for all that loralib saves with this setting, so that each key counts."""
    saved = loralib.lora_state_dict(model, bias)
    with torch.no_grad():
        for tensor in saved.values():
            tensor.normal_(std=0.3)


def test_state_dict_loads_into_loralib() -> None:
    model, peer, ids = randomised(networks(lorakit)), networks(loralib), network_input()
    state = {
        f"conv.{name}" if name in ("conv.weight", "conv.bias") else name: value
        for name, value in model.state_dict().items()
    }
    peer.load_state_dict(state)
    assert_close(peer(ids), model(ids), **TOLERANCES[torch.float32])
    peer.eval()
    model.eval()
    with torch.no_grad():
        assert_close(peer(ids), model(ids), **TOLERANCES[torch.float32])


@pytest.mark.parametrize("prefix", ["", "features.0."])
def test_conv_loads_weights_that_are_registered_twice(prefix: str) -> None:
    """loralib's development version saves a convolution's weight under both names."""
    layer = lorakit.Conv2d(2, 4, 3, r=2)
    model: nn.Module = layer
    if prefix:
        model = nn.ModuleDict({"features": nn.Sequential(layer)})
    state = {f"{prefix}{name}": torch.randn_like(t) for name, t in layer.state_dict().items()}
    twice = state | {
        f"{prefix}conv.{leaf}": state[f"{prefix}{leaf}"] for leaf in ("weight", "bias")
    }
    model.load_state_dict(twice)
    for name, value in model.state_dict().items():
        assert_close(value, state[name], **EXACT)


def test_conv_refuses_two_weights_that_differ() -> None:
    layer = lorakit.Conv2d(2, 4, 3, r=2)
    state = layer.state_dict()
    state["conv.weight"] = state["weight"] + 1
    with pytest.raises(RuntimeError, match=r"weight and conv\.weight have different values"):
        layer.load_state_dict(state)


def test_conv_reports_keys_that_loralib_never_wrote() -> None:
    layer = lorakit.Conv2d(2, 4, 3, r=2)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"conv\.scale"'):
        layer.load_state_dict(layer.state_dict() | {"conv.scale": torch.ones(1)})


def test_conv_without_bias_refuses_loralibs_bias() -> None:
    layer = lorakit.Conv2d(2, 4, 3, r=2, bias=False)
    with pytest.raises(RuntimeError, match=r'Unexpected key.*"bias"'):
        layer.load_state_dict(loralib.Conv2d(2, 4, 3, r=2).state_dict())


# --- adapter files


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_loralib_file_loads_onto_a_plain_model(bias: str, tmp_path: Path) -> None:
    """A convolution's bias is called conv.bias in the file; some layers have no adapter."""
    peer = nn.Sequential(
        loralib.Conv2d(2, 4, 3, r=2, lora_alpha=6), nn.Flatten(), nn.Linear(16, 5), nn.ReLU()
    )
    model = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Flatten(), nn.Linear(16, 5), nn.ReLU())
    randomised(peer)
    model[0].load_state_dict(peer[0].conv.state_dict())
    model[2].load_state_dict(peer[2].state_dict())
    randomise_adapter_and_biases(peer, bias)
    torch.save(loralib.lora_state_dict(peer, bias), tmp_path / "adapter.pt")
    lorakit.load_adapter(model, tmp_path / "adapter.pt", lora_alpha=6)
    x = torch.randn(3, 2, 4, 4)
    assert model[0].r == 2
    assert_close(model(x), peer(x), **TOLERANCES[torch.float32])
    peer.eval()
    model.eval()
    with torch.no_grad():
        assert_close(model(x), peer(x), **TOLERANCES[torch.float32])


def test_file_of_lora_state_dict_is_the_one_loralib_reads(tmp_path: Path) -> None:
    model, peer, ids = without_conv(lorakit), without_conv(loralib), network_input()
    randomised(model)
    peer.load_state_dict(model.state_dict())
    randomised(peer)
    torch.save(model.state_dict(), tmp_path / "base.pt")
    torch.save(lorakit.lora_state_dict(model, "all"), tmp_path / "adapter.pt")
    peer.load_state_dict(torch.load(tmp_path / "base.pt"), strict=False)
    peer.load_state_dict(torch.load(tmp_path / "adapter.pt"), strict=False)
    assert_close(peer(ids), model(ids), **TOLERANCES[torch.float32])


# --- whole models


def without_conv(lib: ModuleType) -> nn.Sequential:
    """A model that has none of loralib's defects: no r=0 layer, no convolution, no odd name."""
    return nn.Sequential(
        OrderedDict(
            table=lib.Embedding(11, 8, r=2),
            q=lib.Linear(8, 8, r=2),
            k=nn.Linear(8, 8),
            qkv=lib.MergedLinear(8, 24, r=2, enable_lora=[True, False, True]),
            loose=lib.Linear(24, 8, r=2, bias=False),
            norm=nn.LayerNorm(8),
        )
    )


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_mark_only_lora_as_trainable_marks_the_same(bias: str) -> None:
    peer, model = without_conv(loralib), without_conv(lorakit)
    loralib.mark_only_lora_as_trainable(peer, bias)
    lorakit.mark_only_lora_as_trainable(model, bias)
    flags = [{n: p.requires_grad for n, p in m.named_parameters()} for m in (peer, model)]
    assert flags[0] == flags[1]
    assert any(flags[1].values())


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_lora_state_dict_holds_the_same(bias: str) -> None:
    peer, model = randomised(without_conv(loralib)), without_conv(lorakit)
    model.load_state_dict(peer.state_dict())
    expected, got = loralib.lora_state_dict(peer, bias), lorakit.lora_state_dict(model, bias)
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert_close(got[name], value, **EXACT)


@pytest.mark.parametrize("bias", ["none", "all", "lora_only"])
def test_lora_state_dict_saves_what_is_marked(bias: str) -> None:
    model = networks(lorakit)
    lorakit.mark_only_lora_as_trainable(model, bias)
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert trained == set(lorakit.lora_state_dict(model, bias))


@pytest.mark.parametrize("function", ["mark_only_lora_as_trainable", "lora_state_dict"])
def test_unknown_bias_is_refused_before_anything_is_frozen(function: str) -> None:
    peer, model = without_conv(loralib), without_conv(lorakit)
    with pytest.raises(NotImplementedError):
        getattr(loralib, function)(peer, bias="some")
    before = {name: p.requires_grad for name, p in model.named_parameters()}
    with pytest.raises(ConfigError, match="bias is 'some'; it must be one of none, all, lora_only"):
        getattr(lorakit, function)(model, bias="some")
    assert {name: p.requires_grad for name, p in model.named_parameters()} == before


def test_mark_only_leaves_what_shares_a_parameter_frozen() -> None:
    model = nn.Sequential(nn.Linear(4, 4), lorakit.Linear(4, 4, r=2))
    model[0].weight = model[1].weight
    lorakit.mark_only_lora_as_trainable(model)
    assert [name for name, p in model.named_parameters() if p.requires_grad] == [
        "1.lora_A",
        "1.lora_B",
    ]
