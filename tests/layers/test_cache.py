"""The merged weight's life: every way of going stale, and what it never touches."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.base import AdapterLayer
from lorakit.layers.weight_mark import sample
from tests.tolerances import EXACT, TOLERANCES

QV = [True, False, True]

LAYERS: dict[str, Callable[..., AdapterLayer]] = {
    "linear": partial(lora.Linear, 8, 12, r=2, lora_alpha=3),
    "linear transposed": partial(lora.Linear, 8, 12, r=2, lora_alpha=3, fan_in_fan_out=True),
    "slices": partial(lora.MergedLinear, 8, 12, r=2, lora_alpha=3, enable_lora=QV),
    "embedding": partial(lora.Embedding, 9, 8, r=2, lora_alpha=3),
    "conv1d": partial(lora.Conv1d, 4, 6, 3, r=2, lora_alpha=3),
    "conv2d": partial(lora.Conv2d, 4, 6, 3, r=2, lora_alpha=3),
}


def make(kind: str, **settings: object) -> AdapterLayer:
    layer = LAYERS[kind](**settings)
    with torch.no_grad():
        for parameter in (layer.lora_A, layer.lora_B):
            parameter.normal_(std=0.5)
    return layer


def example(layer: AdapterLayer) -> Tensor:
    """An input that reads every number of the weight; for an embedding, every row."""
    if isinstance(layer, lora.Embedding):
        return torch.arange(9).reshape(3, 3)
    shape = {lora.Conv1d: (2, 4, 7), lora.Conv2d: (2, 4, 5, 5)}.get(type(layer), (5, 8))
    return torch.randn(shape, dtype=layer.base_weight.dtype)


def slow_forward(layer: AdapterLayer, x: Tensor) -> Tensor:
    """The layer with round(W + s B A) written out, from its parameters as they are now."""
    w, a, b = (p.detach().double() for p in (layer.base_weight, layer.lora_A, layer.lora_B))
    bias = None if getattr(layer, "bias", None) is None else layer.bias.detach().double()
    s = layer.lora_alpha / layer.r
    if isinstance(layer, lora.MergedLinear):
        w = w + s * torch.cat([b[:4] @ a[:2], torch.zeros_like(w[4:8]), b[4:] @ a[2:]])
    elif isinstance(layer, lora.Linear):
        w = (w.t() if layer.fan_in_fan_out else w) + s * b @ a
    elif isinstance(layer, lora.Embedding):
        w = w + s * (b @ a).t()
    elif isinstance(layer, lora.Conv1d):
        w = w + s * torch.einsum("or,rik->oik", b[..., 0], a)
    else:
        w = w + s * (b @ a).view(w.shape)
    w = w.to(layer.base_weight.dtype).double()
    if isinstance(layer, lora.Embedding):
        return w[x]
    forward = {lora.Conv1d: F.conv1d, lora.Conv2d: F.conv2d}.get(type(layer), F.linear)
    return forward(x.double(), w, bias)


def assert_right(layer: AdapterLayer, x: Tensor) -> None:
    """The output without gradient is that of the parameters as they are now."""
    with torch.no_grad():
        y = layer(x)
    assert_close(y.double(), slow_forward(layer, x), **TOLERANCES[layer.base_weight.dtype])


def build(layer: AdapterLayer, x: Tensor) -> Tensor:
    """Fill the cache, and return the output from it."""
    layer.eval()
    with torch.no_grad():
        y = layer(x)
    assert layer.merged
    return y


@pytest.fixture(params=LAYERS)
def layer(request) -> AdapterLayer:
    return make(request.param)


# --- when it is built


def test_the_first_forward_without_gradient_in_evaluation_builds_it(layer):
    x = example(layer)
    for mode, grad in ((True, True), (True, False), (False, True)):
        layer.train(mode)
        with torch.set_grad_enabled(grad):
            layer(x)
        assert not layer.merged
    build(layer, x)
    assert_right(layer, x)
    assert layer._merged is not None
    assert not layer._merged.requires_grad
    assert layer._merged.shape == layer.base_weight.shape


def test_the_second_forward_uses_the_same_tensor(layer):
    x = example(layer)
    first = build(layer, x)
    merged = layer._merged
    assert_close(build(layer, x), first, **EXACT)
    assert layer._merged is merged


def test_it_is_not_built_where_merge_weights_forbids_it(layer):
    x = example(layer)
    layer.merge_weights = False
    with torch.no_grad():
        layer.eval()(x)
    assert layer.build_cache() is None
    assert not layer.merged
    layer.merge_weights = True
    build(layer, x)
    layer.merge_weights = False
    assert not layer.merged
    assert_right(layer, x)


def test_an_inactive_adapter_gives_the_base_though_a_cache_is_there(layer):
    x = example(layer)
    build(layer, x)
    layer.active = False
    with torch.no_grad():
        y = layer(x)
        layer.lora_B.zero_()
    assert_close(y.double(), slow_forward(layer, x), **TOLERANCES[torch.float32])
    layer.active = True
    assert_right(layer, x)


# --- every way of going stale

OPTIMISERS = {
    "AdamW fused": partial(AdamW, lr=0.1, fused=True),
    "AdamW foreach": partial(AdamW, lr=0.1, foreach=True),
    "AdamW": partial(AdamW, lr=0.1, foreach=False),
    "Adam fused": partial(Adam, lr=0.1, fused=True),
    "Adam": partial(Adam, lr=0.1),
    "SGD fused": partial(SGD, lr=0.1, fused=True),
    "SGD foreach": partial(SGD, lr=0.1, foreach=True),
    "SGD": partial(SGD, lr=0.1),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS)
def test_an_optimizer_step_drops_it(layer, optimiser):
    """Fused optimizers do not raise the version of what they write."""
    optimizer = OPTIMISERS[optimiser]([layer.lora_A, layer.lora_B])
    x = example(layer)
    for _ in range(2):
        before = build(layer, x)
        for parameter in (layer.lora_A, layer.lora_B):
            parameter.grad = torch.randn_like(parameter)
        optimizer.step()
        assert not layer.merged
        assert_right(layer, x)
        assert not torch.allclose(build(layer, x), before)


def where_unseen(weight: Tensor) -> Tensor:
    """1 where W is not compared by value, 0 where it is."""
    unseen = torch.ones_like(weight.detach())
    sample(unseen).zero_()
    assert unseen.any()
    return unseen


def edit_data(layer: AdapterLayer) -> None:
    """What nobody can see: a part of W that is not compared, in the same memory and version."""
    version = layer.base_weight._version
    layer.base_weight.data.add_(where_unseen(layer.base_weight))
    assert version == layer.base_weight._version


def step_that_moves_nothing(layer: AdapterLayer) -> None:
    SGD([layer.base_weight], lr=0.1).step()


def step_on_a_flat_view(layer: AdapterLayer) -> None:
    SGD([layer.base_weight.detach().flatten()[1:].requires_grad_()], lr=0.1).step()


def forward_with_gradients(layer: AdapterLayer) -> None:
    layer(example(layer))


def load_own_state(layer: AdapterLayer) -> None:
    layer.load_state_dict(layer.state_dict())


def load_part_of_it(layer: AdapterLayer) -> None:
    layer.load_state_dict({}, strict=False)


@pytest.mark.parametrize(
    "event",
    [
        step_that_moves_nothing,
        step_on_a_flat_view,
        forward_with_gradients,
        load_own_state,
        load_part_of_it,
        lambda layer: layer.train().eval(),
        lambda layer: layer.requires_grad_(False).train().eval(),
        lambda layer: layer.float(),
        lambda layer: layer.to("cpu"),
        lambda layer: layer.drop_cache(),
        lora.refresh,
    ],
    ids=[
        *(
            "its optimizer",
            "flat optimizer",
            "forward with gradients",
            "load",
            "partial load",
            "mode",
        ),
        *("mode, frozen", "float", "to", "drop_cache", "refresh"),
    ],
)
def test_an_edit_through_data_is_seen_after(layer, event):
    x = example(layer)
    before = build(layer, x)
    edit_data(layer)
    assert_close(build(layer, x), before, **EXACT)  # nobody can see it yet
    event(layer)
    assert not layer.merged
    assert_right(layer, x)


@torch.no_grad()
def in_place(layer: AdapterLayer, name: str) -> None:
    getattr(layer, name).mul_(-2)


@torch.no_grad()
def copy_over(layer: AdapterLayer, name: str) -> None:
    getattr(layer, name).copy_(torch.randn_like(getattr(layer, name)))


@torch.no_grad()
def in_place_on_a_view(layer: AdapterLayer, name: str) -> None:
    getattr(layer, name)[0].fill_(3)


def replace_parameter(layer: AdapterLayer, name: str) -> None:
    old = getattr(layer, name)
    setattr(layer, name, nn.Parameter(torch.randn_like(old), requires_grad=old.requires_grad))


def replace_data(layer: AdapterLayer, name: str) -> None:
    parameter = getattr(layer, name)
    parameter.data = parameter.data * -2


def replace_data_twice(layer: AdapterLayer, name: str) -> None:
    """The allocator may give the second tensor the address of the first."""
    replace_data(layer, name)
    replace_data(layer, name)


def from_a_vector(layer: AdapterLayer, name: str) -> None:
    parameter = getattr(layer, name)
    nn.utils.vector_to_parameters(torch.randn(parameter.numel()), [parameter])


def ema_update(layer: AdapterLayer, name: str) -> None:
    torch._foreach_lerp_([getattr(layer, name).detach()], [torch.ones(())], 0.5)


def initialise(layer: AdapterLayer, name: str) -> None:
    nn.init.uniform_(getattr(layer, name))


@pytest.mark.parametrize("name", ["weight", "lora_A", "lora_B"])
@pytest.mark.parametrize(
    "change",
    [
        in_place,
        copy_over,
        in_place_on_a_view,
        replace_parameter,
        replace_data,
        replace_data_twice,
        from_a_vector,
        ema_update,
        initialise,
    ],
)
def test_a_change_of_w_a_or_b_is_seen_at_once(layer, change, name):
    x = example(layer)
    before = build(layer, x)
    change(layer, name)
    assert_right(layer, x)
    assert not torch.allclose(build(layer, x), before)


def test_an_address_that_is_used_again_does_not_hide_a_change():
    layer = lora.Linear(100, 100, r=10)
    x = torch.randn(3, 100)
    for _ in range(20):
        nn.init.normal_(layer.lora_A, std=0.1)
        nn.init.normal_(layer.lora_B, std=0.1)
        build(layer, x)
        replace_data_twice(layer, "lora_A")
        assert_right(layer, x)


def test_another_view_of_the_same_memory_is_seen():
    layer = lora.Linear(8, 8, r=2)
    x = torch.randn(3, 8)
    build(layer, x)
    layer.weight = nn.Parameter(layer.weight.data.t(), requires_grad=False)
    assert_right(layer, x)


@pytest.mark.parametrize("name", ["lora_alpha", "scaling"])
def test_a_change_of_the_scale_is_seen_at_once(layer, name):
    x = example(layer)
    before = build(layer, x)
    setattr(layer, name, 7.0)
    if name == "scaling":
        expected = before + (7 / 1.5 - 1) * (before - base_output(layer, x))
        assert_close(build(layer, x), expected, rtol=1e-4, atol=1e-4)
    else:
        assert_right(layer, x)
    assert not torch.allclose(build(layer, x), before)


def base_output(layer: AdapterLayer, x: Tensor) -> Tensor:
    layer.active = False
    with torch.no_grad():
        y = layer(x)
    layer.active = True
    return y


@pytest.mark.parametrize("assign", [False, True])
def test_a_loaded_state_is_used_at_once(layer, assign):
    """loralib ignores A and B that are loaded after eval() (B1)."""
    x = example(layer)
    other = copy.deepcopy(layer)
    for parameter in other.parameters():
        nn.init.normal_(parameter)
    before = build(layer, x)
    layer.load_state_dict(other.state_dict(), assign=assign)
    assert not layer.merged
    assert_close(build(layer, x), build(other, x), **EXACT)
    assert_right(layer, x)
    assert not torch.allclose(build(layer, x), before)


def test_a_state_loaded_into_the_parent_is_used_at_once(layer):
    model = nn.Sequential(layer).eval()
    x = example(layer)
    build(layer, x)
    state = {name: torch.randn_like(value) for name, value in model.state_dict().items()}
    model.load_state_dict(state)
    assert_right(layer, x)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_a_cast_drops_it(layer, dtype):
    x = example(layer)
    build(layer, x)
    nn.Sequential(layer).to(dtype)
    assert not layer.merged
    x = x if x.dtype == torch.long else x.to(dtype)
    assert_right(layer, x)
    assert layer._merged is not None
    assert layer._merged.dtype == dtype


@pytest.mark.parametrize("method", ["half", "bfloat16", "double", "share_memory"])
def test_the_casting_methods_drop_it(layer, method):
    build(layer, example(layer))
    getattr(layer, method)()
    assert not layer.merged


def test_a_trip_over_the_meta_device_drops_it_and_starts_the_adapter_anew(layer):
    x = example(layer)
    build(layer, x)
    layer.to("meta")
    assert not layer.merged
    layer.to_empty(device="cpu")
    assert not layer.merged
    start = layer.lora_A if isinstance(layer, lora.Embedding) else layer.lora_B
    assert not start.any()
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    assert_right(layer, x)


def test_a_forward_on_the_meta_device_leaves_nothing_behind():
    layer = lora.Linear(8, 12, r=2, device="meta").eval()
    with torch.no_grad():
        layer(torch.empty(3, 8, device="meta"))
    layer.to_empty(device="cpu")
    nn.init.normal_(layer.weight)
    nn.init.normal_(layer.bias)
    nn.init.normal_(layer.lora_B)
    assert_right(layer, torch.randn(3, 8))


# --- gradients in evaluation mode


def test_gradients_in_evaluation_mode_are_those_of_training(layer):
    """loralib has none there (B23)."""
    layer.double()
    x = example(layer)
    upstream = torch.randn_like(layer.train()(x))
    layer(x).backward(upstream)
    expected = {name: p.grad for name, p in layer.named_parameters()}
    layer.zero_grad()
    build(layer, x)
    layer(x).backward(upstream)
    assert not layer.merged
    for name, parameter in layer.named_parameters():
        assert_close(parameter.grad, expected[name], **EXACT, msg=name)
    assert layer.lora_A.grad.abs().sum() * layer.lora_B.grad.abs().sum() > 0


def test_eval_between_forward_and_backward_changes_no_gradient(layer):
    """loralib's does, upstream too (B33)."""
    x = example(layer)
    layer(x).square().sum().backward()
    expected = {name: p.grad for name, p in layer.named_parameters()}
    layer.zero_grad()
    loss = layer(x).square().sum()
    build(layer, x)
    loss.backward()
    for name, parameter in layer.named_parameters():
        assert_close(parameter.grad, expected[name], **EXACT, msg=name)


# --- inference mode, autocast, tracing, transforms


def test_inference_mode_builds_a_tensor_that_is_usable_outside(layer):
    x = example(layer)
    layer.eval()
    with torch.inference_mode():
        first = layer(x)
        merged = layer._merged
    assert merged is not None
    assert not merged.is_inference()
    with torch.no_grad():
        assert_close(layer(x), first, **EXACT)
    assert layer._merged is merged
    assert_right(layer, x)


def test_an_inference_tensor_is_never_cached():
    with torch.inference_mode():
        layer = make("linear").eval()
        x = torch.randn(3, 8)
        for _ in range(2):
            assert_close(layer(x).double(), slow_forward(layer, x), **TOLERANCES[torch.float32])
            layer.lora_B.mul_(2)  # no version tells
    assert not layer.merged


def test_one_inference_parameter_among_others_is_enough_for_that():
    layer = make("linear").eval()
    with torch.inference_mode():
        layer.lora_A = nn.Parameter(torch.randn(2, 8), requires_grad=False)
    x = torch.randn(3, 8)
    for _ in range(2):
        assert_right(layer, x)
        with torch.inference_mode():
            layer.lora_A.mul_(2)
    assert not layer.merged


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_change_the_cached_value(layer, dtype):
    x = example(layer)
    build(layer, x)
    expected = layer._merged
    layer.drop_cache()
    with torch.autocast("cpu", dtype):
        build(layer, x)
    assert_close(layer._merged, expected, **EXACT)
    assert_right(layer, x)


def test_it_rounds_once_beside_a_16_bit_weight():
    layer = lora.Linear(80, 60, r=2, dtype=torch.bfloat16)
    layer.lora_A.data, layer.lora_B.data = torch.randn(2, 80), torch.randn(60, 2) / 100
    with torch.autocast("cpu", torch.bfloat16):
        build(layer, torch.randn(1, 80, dtype=torch.bfloat16))
    delta = layer.lora_B.double() @ layer.lora_A.double() * layer.scaling
    exact = (layer.weight.double() + delta).bfloat16()
    assert (layer._merged != exact).sum() <= 2


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("grad", [False, True])
def test_vmap_over_stacked_adapters_is_each_of_them(layer, cached, grad):
    x = example(layer)
    if cached:
        build(layer, x)
    layer.eval()
    stacked = {name: torch.randn(3, *getattr(layer, name).shape) for name in ("lora_A", "lora_B")}
    with torch.set_grad_enabled(grad):
        y = torch.func.vmap(lambda p: torch.func.functional_call(layer, p, (x,)))(stacked)
    for i in range(3):
        single = copy.deepcopy(layer)
        single.load_state_dict({name: value[i] for name, value in stacked.items()}, strict=False)
        expected = slow_forward(single, x)
        assert_close(y[i].detach().double(), expected, rtol=1e-5, atol=1e-4)
    assert_right(layer, x)


@pytest.mark.parametrize("mode", [True, False])
def test_per_sample_gradients_equal_a_loop(layer, mode):
    layer.double().train(mode)
    x = example(layer)
    parameters = {"lora_A": layer.lora_A.detach(), "lora_B": layer.lora_B.detach()}

    def loss(parameters: dict[str, Tensor], x: Tensor) -> Tensor:
        return torch.func.functional_call(layer, parameters, (x,)).square().sum()

    gradients = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for i in range(len(x)):
        layer.zero_grad()
        layer(x[i]).square().sum().backward()
        for name, value in gradients.items():
            expected = getattr(layer, name).grad
            assert_close(value[i], expected, **TOLERANCES[torch.float64], msg=name)


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # jvp's
def test_a_forward_derivative_without_gradients_is_right_and_leaves_nothing_behind(layer):
    x = example(layer)
    layer.double().eval()
    x = x if x.dtype == torch.long else x.double()
    a = layer.lora_A.detach()
    with torch.no_grad():
        _, tangent = torch.func.jvp(
            lambda a: torch.func.functional_call(layer, {"lora_A": a}, (x,)), (a,), (a,)
        )
        change = slow_forward(layer, x) - base_output(layer, x)
    assert_close(tangent, change, **TOLERANCES[torch.float64])
    assert not layer.merged
    assert_right(layer, x)


def test_a_fake_tensor_is_never_cached(layer):
    from torch._subclasses.fake_tensor import FakeTensorMode

    x = example(layer)
    layer.eval()
    with torch.no_grad(), FakeTensorMode(allow_non_fake_inputs=True):
        layer(x)
    assert not layer.merged
    assert_right(layer, x)


# --- where it must not be found


@pytest.mark.parametrize(
    "clone",
    [copy.deepcopy, copy.copy, lambda layer: pickle.loads(pickle.dumps(layer))],
    ids=["deepcopy", "copy", "pickle"],
)
def test_no_copy_contains_it(layer, clone):
    x = example(layer)
    before = build(layer, x)
    other = clone(layer)
    assert not other.merged
    assert layer.merged
    assert_close(build(other, x), before, **EXACT)
    with torch.no_grad():
        other.lora_B.mul_(2)
    assert_right(other, x)
    assert_right(layer, x)


def test_a_pickle_is_no_larger_for_it():
    layer = lora.Linear(200, 200, r=2)
    without = len(pickle.dumps(layer.eval()))
    build(layer, torch.randn(1, 200))
    assert len(pickle.dumps(layer)) == without


def test_a_state_dict_is_that_of_the_unmerged_layer(layer):
    """loralib's holds the merged weight beside A and B (B2)."""
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    build(layer, example(layer))
    after = layer.state_dict()
    assert list(after) == list(before)
    for name, value in after.items():
        assert_close(value, before[name], **EXACT)


def test_a_deep_copy_for_averaging_stays_right():
    """loralib's average of a merged model is wrong (B35)."""
    layer = make("linear")
    average = AveragedModel(nn.Sequential(layer), multi_avg_fn=get_ema_multi_avg_fn(0.5))
    x = example(layer)
    for _ in range(4):
        average.update_parameters(nn.Sequential(layer))
        build(average.module[0], x)
        assert_right(average.module[0], x)
        with torch.no_grad():
            layer.lora_B.normal_()
            layer.lora_A.normal_()
        build(layer, x)


# --- the base


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_thousand_cycles_leave_the_base_bit_identical(dtype):
    """loralib's base drifts by 4% in bfloat16 (B4)."""
    layer = lora.Linear(24, 16, r=2, lora_alpha=16, dtype=dtype)
    weight, x = layer.weight.detach().clone(), torch.randn(2, 24, dtype=dtype)
    address = layer.weight.data_ptr()
    for _ in range(1000):
        with torch.no_grad():
            layer.lora_B.normal_(std=0.05)
            layer.eval()(x)
        assert layer.merged
        layer.train()
        assert not layer.merged
    assert torch.equal(layer.weight.view(torch.uint8), weight.view(torch.uint8))
    assert layer.weight.data_ptr() == address


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_a_changing_adapter_in_evaluation_leaves_the_base_bit_identical(layer, dtype):
    """loralib then takes off another update than it added (B5)."""
    layer.to(dtype)
    x = example(layer)
    before = layer.base_weight.detach().clone()
    for _ in range(20):
        build(layer, x)
        with torch.no_grad():
            layer.lora_A.normal_(std=0.3)
            layer.lora_B.normal_(std=0.3)
        assert_right(layer, x)
        layer.train()
    assert_close(layer.base_weight.detach(), before, **EXACT)


def test_another_model_s_optimizer_leaves_the_cache() -> None:
    """A teacher stays merged while its student trains; its own fused step is still seen."""
    layer = lora.Linear(8, 12, r=2).eval()
    x = torch.ones(2, 8)
    before = build(layer, x)
    merged = layer._merged
    student = nn.Parameter(torch.ones(1))
    student.grad = torch.ones(1)
    torch.optim.AdamW([student], lr=0.1, fused=True).step()
    assert layer._merged is merged is not None
    layer.lora_B.grad = torch.ones_like(layer.lora_B)
    torch.optim.AdamW([student, layer.lora_B], lr=0.1, fused=True).step()
    assert not layer.merged
    assert (build(layer, x) - before).abs().max() > 1e-3
