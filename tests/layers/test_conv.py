"""Convolutions with a low-rank update, against the convolution with W + dW by its definition.

Both forms are here: loralib's square matrices, which a constructed Conv2d with a square kernel has,
and the kernel form of everything else.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit
from lorakit.errors import ConfigError, TargetError
from tests.tolerances import EXACT, TOLERANCES

FP64 = TOLERANCES[torch.float64]


@dataclass(frozen=True)
class Case:
    """A convolution and the size of an input for it."""

    sides: tuple[int, ...]
    kernel: int | tuple[int, ...]
    options: dict[str, Any] = field(default_factory=dict)
    form: str = "kernel"
    """The form that the constructor chooses; an injected one always has the kernel form."""
    channels: tuple[int, int] = (4, 6)

    def __str__(self) -> str:
        kernel = self.kernel if isinstance(self.kernel, int) else "x".join(map(str, self.kernel))
        options = (f"{name}={value}" for name, value in self.options.items())
        return "-".join([f"{len(self.sides)}d", f"k{kernel}", *options])

    @property
    def name(self) -> str:
        return f"Conv{len(self.sides)}d"

    def constructed(self, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.Module:
        lora_class = getattr(lorakit, self.name)
        settings = {"r": 2, "lora_alpha": 3} | settings
        layer = lora_class(*self.channels, self.kernel, **self.options, **settings, dtype=dtype)
        return randomised(layer)

    def plain(self, dtype: torch.dtype = torch.float64) -> nn.Module:
        return getattr(nn, self.name)(*self.channels, self.kernel, **self.options, dtype=dtype)

    def injected(self, dtype: torch.dtype = torch.float64, **settings: Any) -> nn.Module:
        model = nn.Sequential(self.plain(dtype))
        settings = {"r": 2, "lora_alpha": 3, "merge_weights": True} | settings
        lorakit.inject(model, lorakit.LoraConfig(target_modules=["0"], **settings))
        return randomised(model[0])

    def made(self, how: str, **settings: Any) -> nn.Module:
        return getattr(self, how)(**settings)

    def input(self, dtype: torch.dtype = torch.float64, batch: int = 2) -> Tensor:
        return torch.randn(batch, self.channels[0], *self.sides, dtype=dtype, requires_grad=True)


def with_options(sides: tuple[int, ...], kernel: int | tuple[int, ...], form: str) -> list[Case]:
    """One case each for stride, padding, its modes, dilation, groups and no bias."""
    options: list[dict[str, Any]] = [
        {},
        {"bias": False},
        {"stride": 2},
        {"padding": 1},
        {"padding": "same"},
        {"padding": 1, "padding_mode": "circular"},
        {"padding": 1, "padding_mode": "replicate"},
        {"padding": 1, "padding_mode": "reflect"},
        {"dilation": 2},
        {"groups": 2},
        {"groups": 2, "stride": 2, "padding": 2, "dilation": 2, "padding_mode": "circular"},
    ]
    return [Case(sides, kernel, option, form) for option in options]


CASES = [
    *with_options((11,), 3, "kernel"),
    *with_options((9, 8), 3, "square"),
    *with_options((5, 6, 7), 3, "kernel"),
    Case((9,), 1, form="square"),
    Case((9,), 4),
    Case((9,), (5,), {"groups": 2}),
    Case((9, 8), (3, 3), form="square"),
    Case((9, 8), (3, 1)),
    Case((9, 8), (1, 5), {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)}),
    Case((9, 8), (3, 2), {"padding": (2, 1), "padding_mode": "circular", "groups": 2}),
    Case((9, 8), 2, {"stride": 3}, form="square"),
    Case((9, 8), 1, {"groups": 2}, form="square"),
    Case((9, 8), 3, {"groups": 4}, form="square", channels=(4, 8)),
    Case((3, 6, 7), (1, 3, 3), {"padding": (0, 1, 1)}),
    Case((5, 6, 7), (3, 2, 1), {"stride": (1, 2, 3), "groups": 2}),
    Case((3, 4, 5), 1, {"groups": 2}, form="square"),
]
ALL = pytest.mark.parametrize("case", CASES, ids=str)
HOW = pytest.mark.parametrize("how", ["constructed", "injected"])
ONE_EACH = pytest.mark.parametrize("case", [CASES[0], CASES[11], CASES[22]], ids=str)


def randomised(layer: nn.Module) -> nn.Module:
    with torch.no_grad():
        layer.lora_A.normal_(std=0.5)
        layer.lora_B.normal_(std=0.5)
    return layer


def rank_of(case: Case, how: str) -> int:
    """A rank that the groups divide, where they must."""
    groups = case.options.get("groups", 1)
    return 2 if groups <= 2 or (how == "constructed" and case.form == "square") else groups


def slow_delta(layer: nn.Module, a: Tensor, b: Tensor) -> Tensor:
    """dW row by row: within its group, output o is the sum of B[o, j] times the group's A[j].

    For loralib's matrices it is the numbers of B A, in the order of the weight.
    """
    if a.ndim == 2:
        numbers = [(row[:, None] * a).sum(dim=0) for row in b]
        return layer.scaling * torch.cat(numbers).view(layer.weight.shape)
    outputs, per_group = layer.out_channels // layer.groups, a.shape[0] // layer.groups
    rows = []
    for o in range(layer.out_channels):
        own = a[o // outputs * per_group :][:per_group]
        rows.append(sum(b[o, j] * own[j] for j in range(per_group)))
    return layer.scaling * torch.stack(rows)


def slow_forward(
    layer: nn.Module, plain: nn.Module, x: Tensor, a: Tensor, b: Tensor, bias: Tensor | None
) -> Tensor:
    """torch's own convolution module with W + dW as its weight."""
    tensors = {"weight": layer.weight.detach() + slow_delta(layer, a, b)}
    if bias is not None:
        tensors["bias"] = bias
    return torch.func.functional_call(plain, tensors, (x,))


# --- the forms


@ALL
def test_constructed_conv_has_loralibs_form_where_it_exists(case: Case) -> None:
    layer = case.constructed()
    (inputs, outputs), groups = case.channels, layer.groups
    if case.form == "square":
        k = layer.kernel_size[0]
        assert layer.lora_A.shape == (2 * k, inputs * k)
        assert layer.lora_B.shape == (outputs // groups * k, 2 * k)
    else:
        assert layer.lora_A.shape == (2, inputs // groups, *layer.kernel_size)
        assert layer.lora_B.shape == (outputs, 2 // groups, *[1] * len(case.sides))


@ALL
def test_injected_conv_has_the_rank_it_says(case: Case) -> None:
    r = rank_of(case, "injected")
    layer = case.injected(r=r)
    inputs, outputs = case.channels
    assert layer.lora_A.shape == (r, inputs // layer.groups, *layer.kernel_size)
    assert layer.lora_B.shape == (outputs, r // layer.groups, *[1] * len(case.sides))
    for rows in layer.delta_weight().detach().flatten(1).chunk(layer.groups):
        assert torch.linalg.matrix_rank(rows) == min(r // layer.groups, *rows.shape)


@pytest.mark.parametrize("how", ["constructed", "injected"])
@pytest.mark.parametrize("kernel", [(3, 1), (1, 3)])
def test_rank_that_groups_do_not_divide_is_refused(how: str, kernel: tuple[int, int]) -> None:
    case = Case((9, 8), kernel, {"groups": 2})
    with pytest.raises((ConfigError, TargetError), match=r"multiple") as caught:
        case.made(how, r=3)
    assert "groups=2" in str(caught.value)


def test_square_form_takes_any_rank_with_groups() -> None:
    layer = Case((9, 8), 3, {"groups": 2}).constructed(r=3)
    assert layer.lora_A.shape == (9, 12)


@pytest.mark.parametrize("kind", ["ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d"])
def test_transposed_conv_is_refused_by_name(kind: str) -> None:
    model = nn.Sequential(getattr(nn, kind)(4, 4, 3))
    with pytest.raises(TargetError, match=kind):
        lorakit.inject(model, lorakit.LoraConfig(r=2, target_modules=["0"]))
    assert type(model[0]) is getattr(nn, kind)


@ONE_EACH
def test_new_conv_gives_the_output_of_its_base(case: Case) -> None:
    plain, x = case.plain(), case.input()
    layer = getattr(lorakit, case.name)(*case.channels, case.kernel, r=2, dtype=torch.float64)
    layer.load_state_dict(plain.state_dict(), strict=False)
    expected = plain(x)
    assert_close(layer(x), expected, **EXACT)
    model = nn.Sequential(plain)
    lorakit.inject(model, lorakit.LoraConfig(r=2, target_modules=["0"]))
    assert_close(model(x), expected, **EXACT)


# --- values


@HOW
@ALL
def test_delta_is_the_slow_one(case: Case, how: str) -> None:
    layer = case.made(how, r=rank_of(case, how))
    assert_close(layer.delta_weight(), slow_delta(layer, layer.lora_A, layer.lora_B), **FP64)


@HOW
@ALL
def test_output_and_gradients_are_those_of_the_sum(case: Case, how: str) -> None:
    layer, x = case.made(how, r=rank_of(case, how)), case.input()
    if layer.bias is not None:
        layer.bias.requires_grad_()
    names = ["lora_A", "lora_B", *(["bias"] if layer.bias is not None else [])]
    leaves = {name: getattr(layer, name).detach().clone().requires_grad_() for name in names}
    slow_x = x.detach().clone().requires_grad_()
    a, b, bias = leaves["lora_A"], leaves["lora_B"], leaves.get("bias")
    expected = slow_forward(layer, case.plain(), slow_x, a, b, bias)
    output = layer(x)
    assert_close(output, expected, **FP64)
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (expected * weights).sum().backward()
    for name, leaf in leaves.items():
        assert_close(getattr(layer, name).grad, leaf.grad, **FP64)
    assert_close(x.grad, slow_x.grad, **FP64)
    assert layer.weight.grad is None


@HOW
@ALL
def test_merged_output_is_the_unmerged_one(case: Case, how: str) -> None:
    layer, x = case.made(how, r=rank_of(case, how)), case.input()
    base, expected = layer.weight.detach().clone(), layer(x).detach()
    with torch.no_grad():
        merged = layer.eval()(x)
    assert layer.merged
    assert_close(merged, expected, **FP64)
    assert_close(layer.train()(x), expected, **EXACT)
    assert not layer.merged
    assert_close(layer.weight, base, **EXACT)


@HOW
@ONE_EACH
def test_conv_passes_gradcheck(case: Case, how: str) -> None:
    small = Case(tuple(2 for _ in case.sides), 2, {"padding": 1}, channels=(2, 2))
    layer, x = small.made(how, r=1), small.input(batch=1)

    def function(x: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return torch.func.functional_call(layer, {"lora_A": a, "lora_B": b}, (x,))

    factors = (p.detach().clone().requires_grad_() for p in (layer.lora_A, layer.lora_B))
    assert torch.autograd.gradcheck(function, (x, *factors))


@HOW
@ONE_EACH
def test_input_without_a_batch_is_one_example(case: Case, how: str) -> None:
    layer, x = case.made(how), case.input(batch=1)
    assert_close(layer(x[0]), layer(x)[0], **FP64)


@HOW
@ONE_EACH
def test_empty_batch_gives_an_empty_output(case: Case, how: str) -> None:
    layer = case.made(how)
    expected = (0, *layer(case.input()).shape[1:])
    assert layer(case.input(batch=0)).shape == expected


@HOW
def test_memory_format_of_the_input_does_not_matter(how: str) -> None:
    case = Case((9, 8), 3)
    layer, x = case.made(how), case.input()
    assert_close(layer(x.to(memory_format=torch.channels_last)), layer(x), **FP64)


# --- dtypes


@ALL
def test_bfloat16_base_keeps_its_dtype_and_factors_theirs(case: Case) -> None:
    r = rank_of(case, "injected")
    layer, exact = case.injected(torch.bfloat16, r=r), case.injected(r=r)
    exact.load_state_dict(layer.state_dict())
    x = case.input(torch.bfloat16)
    output, truth = layer(x), exact(x.detach().double())
    weights = torch.randn_like(output)
    (output * weights).sum().backward()
    (truth * weights.double()).sum().backward()
    assert output.dtype == torch.bfloat16
    assert_near(output, truth)
    for name in ("lora_A", "lora_B"):
        parameter = getattr(layer, name)
        assert parameter.dtype == parameter.grad.dtype == torch.float32
        assert_near(parameter.grad, getattr(exact, name).grad)
    with torch.no_grad():
        merged = layer.eval()(x)
    assert merged.dtype == torch.bfloat16
    assert_near(merged, truth)


def assert_near(got: Tensor, truth: Tensor) -> None:
    """Equal to bfloat16's roundings, relative to the size of the whole tensor."""
    error = (got.double() - truth).norm() / truth.norm()
    assert error < TOLERANCES[torch.bfloat16]["rtol"], f"relative error {error:.1e}"


@HOW
@ONE_EACH
def test_autocast_computes_in_its_dtype(case: Case, how: str) -> None:
    layer, x = case.made(how, dtype=torch.float32), case.input(torch.float32)
    truth = layer(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = layer(x)
    output.float().sum().backward()
    assert output.dtype == torch.bfloat16
    assert_near(output.detach(), truth.detach().double())
    assert layer.lora_A.grad.dtype == torch.float32


# --- dropout


@HOW
@ONE_EACH
def test_dropout_keeps_the_expected_output(case: Case, how: str) -> None:
    layer, x = case.made(how, lora_dropout=0.4), case.input(batch=1).detach()
    with torch.no_grad():
        draws = layer(x.expand(4000, *x.shape[1:]))
        expected = layer.eval()(x)[0]
        base = layer._convolve(x, layer.weight, layer.bias)[0]
    error = (draws.mean(dim=0) - expected).abs()
    deviation = draws.std(dim=0) / 4000**0.5
    assert (error <= 5 * deviation).all()
    assert (expected - base).norm() > 0.5 * deviation.norm()
    assert draws.std(dim=0).min() > 0


@HOW
@ONE_EACH
def test_dropout_spares_the_base(case: Case, how: str) -> None:
    layer, x = case.made(how, lora_dropout=0.4), case.input()
    nn.init.zeros_(layer.lora_B)
    assert_close(layer(x), layer._convolve(x, layer.weight, layer.bias), **EXACT)


@HOW
@ONE_EACH
def test_dropout_ends_with_training(case: Case, how: str) -> None:
    layer, x = case.made(how, lora_dropout=0.4), case.input()
    layer.eval()
    assert_close(layer(x), slow_forward_of(layer, case, x), **FP64)


def slow_forward_of(layer: nn.Module, case: Case, x: Tensor) -> Tensor:
    return slow_forward(layer, case.plain(), x, layer.lora_A, layer.lora_B, layer.bias)


# --- settings


def test_rank_above_the_layer_is_shown() -> None:
    layer = lorakit.Conv2d(2, 3, (1, 2), r=7)
    assert layer.max_rank == 3
    assert "r=7, lora_alpha=1 (r above min(in, out)=3)" in repr(layer)
    assert "above" not in repr(lorakit.Conv2d(2, 3, (1, 2), r=3))


@ONE_EACH
def test_conv_without_rank_is_the_plain_one(case: Case) -> None:
    layer, plain = getattr(lorakit, case.name)(*case.channels, case.kernel), case.plain()
    layer.to(torch.float64).load_state_dict(plain.state_dict())
    x = case.input()
    assert_close(layer(x), plain(x), **EXACT)
    assert all(parameter.requires_grad for parameter in layer.parameters())


@HOW
@ONE_EACH
def test_reset_draws_the_factors_anew(case: Case, how: str) -> None:
    layer, x = case.made(how), case.input()
    layer.reset_parameters()
    base = F.__dict__[f"conv{len(case.sides)}d"](x, layer.weight, layer.bias)
    assert layer.lora_B.abs().max() == 0
    assert layer.lora_A.std() > 0
    assert_close(layer(x), base, **EXACT)


def test_scale_of_an_injected_conv_follows_rslora() -> None:
    layer = Case((9, 8), 3).injected(r=4, lora_alpha=6, use_rslora=True)
    assert layer.scaling == 3.0
    expected = slow_delta(layer, layer.lora_A, layer.lora_B)
    assert_close(layer.delta_weight(), expected, **FP64)
