"""Linear and MergedLinear against W + dW written out, in every type, shape and setting."""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import lorakit as lora
from lorakit.errors import ConfigError
from tests.tolerances import EXACT, TOLERANCES

QV = [True, False, True]


def fused_unequal() -> nn.Module:
    """Slices of heights 6, 2, 3 and 1, as grouped queries make them."""
    parts = [(6, True), (2, False), (3, True), (1, True)]
    model = nn.Sequential(nn.Linear(8, 12))
    lora.inject(
        model, lora.LoraConfig(r=2, lora_alpha=3, target_modules=["0"], slices={"0": parts})
    )
    return model[0]


def conv1d() -> nn.Module:
    """GPT-2's Conv1D, adapted in place."""
    from transformers.pytorch_utils import Conv1D

    model = nn.Sequential(Conv1D(12, 8))
    lora.inject(model, lora.LoraConfig(r=2, lora_alpha=3, target_modules=["0"]))
    return model[0]


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "linear": lambda: lora.Linear(8, 12, r=2, lora_alpha=3),
    "linear transposed": lambda: lora.Linear(8, 12, r=2, lora_alpha=3, fan_in_fan_out=True),
    "without bias": lambda: lora.Linear(8, 12, r=2, lora_alpha=3, bias=False),
    "transposed without bias": lambda: lora.Linear(
        8, 12, r=2, lora_alpha=3, fan_in_fan_out=True, bias=False
    ),
    "slices": lambda: lora.MergedLinear(8, 12, r=2, lora_alpha=3, enable_lora=QV),
    "slices transposed": lambda: lora.MergedLinear(
        8, 12, r=2, lora_alpha=3, enable_lora=QV, fan_in_fan_out=True
    ),
    "unequal slices": fused_unequal,
    "Conv1D": conv1d,
}


@pytest.fixture(params=LAYERS)
def layer(request) -> nn.Module:
    return randomised(LAYERS[request.param]())


def randomised(layer: nn.Module) -> nn.Module:
    """B is zero at the start; a test of the update needs one."""
    nn.init.normal_(layer.lora_B, std=0.5)
    return layer


def slow_delta(layer: nn.Module) -> Tensor:
    """s * B A as (out, in); row by row where there are slices."""
    a, b = layer.lora_A, layer.lora_B
    parts = getattr(layer.site, "slices", None)
    if parts is None:
        return layer.lora_alpha / layer.r * torch.einsum("or,ri->oi", b, a)
    rows, first, taken = [], 0, 0
    for height, adapted in parts:
        for _ in range(height):
            rows.append(b[taken] @ a[first : first + layer.r] if adapted else 0 * a[0])
            taken += adapted
        first += adapted * layer.r
    return layer.lora_alpha / layer.r * torch.stack(rows)


def slow_forward(layer: nn.Module, x: Tensor) -> Tensor:
    """x (W + dW)^T + b in float64."""
    wide = copy.deepcopy(layer).double()
    weight = wide.weight.t() if getattr(wide, "fan_in_fan_out", False) else wide.weight
    y = x.double() @ (weight + slow_delta(wide)).T
    return (y if wide.bias is None else y + wide.bias).detach()


@pytest.mark.parametrize("shape", [(), (0,), (5,), (2, 3), (2, 0, 3), (2, 3, 5)])
@pytest.mark.parametrize("mode", ["train", "eval", "merged"])
def test_forward_equals_the_definition_for_inputs_of_one_to_four_dimensions(layer, shape, mode):
    layer.merge_weights = True
    layer.train(mode == "train")
    x = torch.randn(*shape, 8)
    with torch.set_grad_enabled(mode != "merged"):
        y = layer(x)
    assert layer.merged == (mode == "merged")
    assert y.shape == (*shape, 12)
    assert_close(y.detach().double(), slow_forward(layer, x), **TOLERANCES[torch.float32])


def test_forward_reads_a_non_contiguous_input(layer):
    x = torch.randn(8, 3, 5).transpose(0, 2)
    expected = slow_forward(layer, x)
    assert_close(layer(x).detach().double(), expected, **TOLERANCES[torch.float32])


def test_every_gradient_equals_that_of_the_definition(layer):
    layer.double()
    x = torch.randn(4, 3, 8, dtype=torch.float64, requires_grad=True)
    upstream = torch.randn(4, 3, 12, dtype=torch.float64)
    layer(x).backward(upstream)
    slow = copy.deepcopy(layer)
    x_slow = x.detach().clone().requires_grad_()
    slow.zero_grad()
    weight = slow.weight.t() if getattr(slow, "fan_in_fan_out", False) else slow.weight
    y = x_slow @ (weight + slow_delta(slow)).T
    (y if slow.bias is None else y + slow.bias).backward(upstream)
    close = TOLERANCES[torch.float64]
    assert_close(x.grad, x_slow.grad, **close)
    assert_close(layer.lora_A.grad, slow.lora_A.grad, **close)
    assert_close(layer.lora_B.grad, slow.lora_B.grad, **close)
    assert layer.weight.grad is None
    if layer.bias is not None and layer.bias.requires_grad:
        assert_close(layer.bias.grad, slow.bias.grad, **close)


@pytest.mark.parametrize(
    ("base", "autocast"),
    [
        *[(base, None) for base in TOLERANCES],
        *[(base, torch.bfloat16) for base in TOLERANCES if base != torch.float64],
        *[(base, torch.float16) for base in TOLERANCES if base != torch.float64],
    ],
)
@pytest.mark.parametrize("adapter", [None, torch.float32], ids=["as base", "float32 adapter"])
def test_forward_and_gradients_in_every_combination_of_types(layer, base, adapter, autocast):
    """An adapter in float32 beside a 16-bit base failed in loralib outside autocast (B22)."""
    layer.to(base)
    if adapter:
        layer.lora_A.data, layer.lora_B.data = (p.data.to(adapter) for p in adapters(layer))
    x = torch.randn(4, 8, dtype=base)
    expected = slow_forward(layer, x)
    with torch.autocast("cpu", autocast) if autocast else contextlib.nullcontext():
        y = layer(x)
    assert y.dtype == (autocast or base)
    coarse = autocast if autocast and base.itemsize > 2 else base
    if torch.bfloat16 in (autocast, base):
        coarse = torch.bfloat16
    assert_close(y.detach().double(), expected, **TOLERANCES[coarse])
    y.sum().backward()
    for parameter in adapters(layer):
        assert parameter.grad.dtype == parameter.dtype
        assert parameter.grad.abs().sum() > 0


def adapters(layer: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    return layer.lora_A, layer.lora_B


class Casts(TorchDispatchMode):
    """The shapes of all tensors that are converted inside."""

    def __init__(self) -> None:
        super().__init__()
        self.shapes: list[tuple[int, ...]] = []
        self.operations: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.operations.append(func._schema.name)
        if func._schema.name == "aten::_to_copy":
            self.shapes.append(tuple(args[0].shape))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_inference_from_the_cache_is_the_plain_layers_own_operations_after_a_comparison(dtype):
    layer = randomised(lora.Linear(8, 12, r=2, dtype=dtype)).eval()
    plain = nn.Linear(8, 12, dtype=dtype)
    x = torch.randn(4, 8, dtype=dtype)
    with torch.no_grad():
        layer(x)
        with Casts() as ours:
            layer(x)
        with Casts() as torchs:
            plain(x)
    assert layer.merged
    assert ours.operations == ["aten::equal"] * 3 + torchs.operations  # of W's sample, A and B


def test_inference_of_one_type_casts_nothing(layer):
    with torch.no_grad(), Casts() as casts:
        layer.train()(torch.randn(4, 8))
    assert casts.shapes == []


def test_a_16_bit_base_casts_the_adapter_and_never_an_activation(layer):
    layer.to(torch.bfloat16)
    layer.lora_A.data, layer.lora_B.data = (p.data.float() for p in adapters(layer))
    with torch.no_grad(), Casts() as casts:
        layer.train()(torch.randn(40, 8, dtype=torch.bfloat16))
    assert casts.shapes
    assert all(rows < 40 for rows, _ in casts.shapes)
    assert sum(map(math.prod, casts.shapes)) == layer.lora_A.numel() + layer.lora_B.numel()


def test_backward_keeps_no_float32_activation_beside_a_16_bit_base(layer):
    layer.to(torch.bfloat16)
    layer.lora_A.data, layer.lora_B.data = (p.data.float() for p in adapters(layer))
    kept: list[Tensor] = []

    def keep(tensor: Tensor) -> Tensor:
        kept.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        layer(torch.randn(40, 8, dtype=torch.bfloat16))
    activations = [tensor for tensor in kept if tensor.shape[0] == 40]
    assert activations
    assert all(tensor.dtype == torch.bfloat16 for tensor in activations)


# --- dropout


def test_dropout_zeroes_inputs_of_a_and_scales_the_others():
    p, n = 0.3, 64
    layer = lora.Linear(n, n, r=n, lora_alpha=2 * n, lora_dropout=p)
    with torch.no_grad():
        layer.lora_A.copy_(torch.eye(n))
        layer.lora_B.copy_(torch.eye(n))
    x = torch.rand(500, n) + 1
    with torch.no_grad():
        branch = (layer(x) - nn.functional.linear(x, layer.weight, layer.bias)) / 2
    kept = branch.abs() > 0.5
    expected = torch.where(kept, x / (1 - p), 0.0)
    assert_close(branch, expected, rtol=1e-4, atol=1e-4)
    deviation = (p * (1 - p) / kept.numel()) ** 0.5
    assert abs(kept.float().mean().item() - (1 - p)) < 5 * deviation


def test_dropout_leaves_the_base_path_alone(layer):
    layer.lora_dropout = 0.9
    nn.init.zeros_(layer.lora_B)
    x = torch.randn(40, 8)
    without = copy.deepcopy(layer)
    without.lora_dropout = 0.0
    assert_close(layer.train()(x), without.train()(x), **EXACT)


def test_dropout_draws_anew_in_training_and_never_in_evaluation(layer):
    layer.lora_dropout = 0.5
    x = torch.randn(40, 8)
    assert not torch.equal(layer.train()(x), layer(x))
    layer.eval()
    assert_close(layer(x), layer(x), **EXACT)
    assert_close(layer(x).detach().double(), slow_forward(layer, x), **TOLERANCES[torch.float32])


def test_dropout_is_one_in_the_mean():
    layer = randomised(lora.Linear(8, 12, r=2, lora_alpha=3, lora_dropout=0.5))
    x = torch.randn(1, 8)
    with torch.no_grad():
        samples = layer(x.expand(40_000, 8)).double()
    error = samples.std(0) / 200  # the deviation of the mean of 40,000
    assert ((samples.mean(0) - slow_forward(layer, x)[0]).abs() < 5 * error).all()


# --- settings


def test_rank_zero_is_a_trainable_torch_layer():
    torch.manual_seed(0)
    layer = lora.Linear(8, 12)
    torch.manual_seed(0)
    plain = nn.Linear(8, 12)
    assert list(layer.state_dict()) == ["weight", "bias"]
    assert layer.weight.requires_grad
    assert repr(layer) == repr(plain)
    x = torch.randn(3, 8)
    for mode in (True, False):
        assert_close(layer.train(mode)(x), plain(x), **EXACT)
    assert not layer.merged


def test_a_rank_freezes_the_weight_and_nothing_else(layer):
    trainable = {name for name, p in layer.named_parameters() if p.requires_grad}
    assert {"lora_A", "lora_B"} <= trainable
    assert "weight" not in trainable


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("device", ["cpu", "meta"])
def test_constructor_passes_device_and_type_on(dtype, device):
    layers = [
        lora.Linear(8, 12, r=2, device=device, dtype=dtype),
        lora.MergedLinear(8, 12, r=2, enable_lora=QV, device=device, dtype=dtype),
    ]
    for layer in layers:
        assert {p.dtype for p in layer.parameters()} == {dtype}
        assert {p.device.type for p in layer.parameters()} == {device}


def test_setting_lora_alpha_changes_the_output_at_once(layer):
    layer.lora_alpha = 5
    assert layer.scaling == 5 / layer.r
    x = torch.randn(4, 8)
    assert_close(layer(x).detach().double(), slow_forward(layer, x), **TOLERANCES[torch.float32])


def test_train_and_eval_return_the_layer(layer):
    """loralib's return None (B3)."""
    assert layer.eval() is layer
    assert layer.train() is layer


def test_layers_survive_pickling(layer):
    """loralib keeps a local function where there is no dropout (B16)."""
    x = torch.randn(4, 8)
    assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x), **EXACT)


def test_a_transposed_weight_is_contiguous():
    """loralib's cannot be saved by safetensors (B30)."""
    layer = lora.Linear(8, 12, r=2, fan_in_fan_out=True)
    assert layer.weight.shape == (8, 12)
    assert layer.weight.is_contiguous()
    layer.reset_parameters()
    assert layer.weight.abs().max() <= 8**-0.5
    assert layer.weight.abs().max() > 12**-0.5


def test_reset_parameters_draws_all_anew_and_takes_the_update_back():
    layer = randomised(lora.Linear(8, 12, r=2))
    before = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    for name, parameter in layer.named_parameters():
        assert not torch.equal(parameter, before[name]), name
    assert not layer.lora_B.any()


@pytest.mark.parametrize(
    ("layer", "expected"),
    [
        (
            lora.Linear(8, 12, r=2, lora_alpha=3),
            "Linear(in_features=8, out_features=12, bias=True, r=2, lora_alpha=3)",
        ),
        (
            lora.Linear(8, 4, r=6, bias=False),
            "Linear(in_features=8, out_features=4, bias=False, r=6, lora_alpha=1 "
            "(r above min(in, out)=4))",
        ),
        (
            lora.MergedLinear(8, 12, r=2, enable_lora=QV),
            "MergedLinear(in_features=8, out_features=12, bias=True, r=2, lora_alpha=1, "
            "enable_lora=[True, False, True])",
        ),
        (
            lora.MergedLinear(8, 6, r=3, enable_lora=QV),
            "MergedLinear(in_features=8, out_features=6, bias=True, r=3, lora_alpha=1 "
            "(r above min(in, out)=2), enable_lora=[True, False, True])",
        ),
    ],
)
def test_repr_says_rank_and_alpha(layer, expected):
    assert repr(layer) == expected


# --- errors


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"r": -1, "lora_dropout": 1.0}, ["r is -1", "lora_dropout is 1.0"]),
        ({"r": 2.0, "lora_alpha": "x"}, ["r is 2.0", "lora_alpha is 'x'"]),
        ({"r": True, "lora_dropout": "x"}, ["r is True", "lora_dropout is 'x'"]),
        ({"r": 2, "lora_alpha": math.nan}, ["lora_alpha is nan"]),
        ({"r": 2, "lora_alpha": math.inf, "lora_dropout": -0.1}, ["alpha is inf", "is -0.1"]),
    ],
)
@pytest.mark.parametrize("kind", [lora.Linear, lora.MergedLinear])
def test_constructor_lists_every_problem(kind, settings, named):
    enable = {"enable_lora": QV} if kind is lora.MergedLinear else {}
    with pytest.raises(ConfigError) as caught:
        kind(8, 12, **settings, **enable)
    assert len(caught.value.problems) == len(named)
    for problem, part in zip(caught.value.problems, named, strict=True):
        assert part in problem


@pytest.mark.parametrize(
    ("out_features", "settings", "named"),
    [
        # loralib crashes in forward (B6), adapts other slices than asked for (B7).
        (24, {"r": 4}, ["enables none of 1 slices"]),
        (24, {"r": 4, "enable_lora": [False, False]}, ["enables none of 2 slices"]),
        (24, {"r": 4, "enable_lora": [1, 0, 1]}, ["enable_lora is [1, 0, 1]"]),
        (24, {"r": 4, "enable_lora": []}, ["enable_lora is []"]),
        (24, {"r": 4, "enable_lora": True}, ["enable_lora is True"]),
        (25, {"r": 4, "enable_lora": QV}, ["out_features=25 is not divisible by the 3 slices"]),
        (24, {"r": "4", "enable_lora": QV}, ["r is '4'"]),
        (25, {"r": -1, "lora_dropout": 2, "enable_lora": QV}, ["25", "r is -1", "dropout is 2"]),
    ],
)
def test_merged_linear_lists_every_problem(out_features, settings, named):
    with pytest.raises(ConfigError) as caught:
        lora.MergedLinear(8, out_features, **settings)
    assert len(caught.value.problems) == len(named)
    for problem, part in zip(caught.value.problems, named, strict=True):
        assert part in problem


@pytest.mark.parametrize("name", ["lora_alpha", "lora_dropout"])
def test_setters_refuse_what_the_constructor_refuses(layer, name):
    before = getattr(layer, name), layer.scaling
    with pytest.raises(ConfigError, match=name):
        setattr(layer, name, math.nan)
    assert (getattr(layer, name), layer.scaling) == before


def test_merged_linear_moved_off_the_meta_device_still_adapts_its_slices():
    """loralib keeps its mask of slices on the meta device (B8)."""
    layer = lora.MergedLinear(8, 12, r=2, enable_lora=QV, device="meta").to_empty(device="cpu")
    layer.load_state_dict(LAYERS["slices"]().state_dict())
    randomised(layer)
    x = torch.randn(4, 8)
    wide = TOLERANCES[torch.float32]
    layer.lora_alpha = 3
    assert_close(layer(x).detach().double(), slow_forward(layer, x), **wide)
    assert layer.delta_weight().abs().sum() > 0
