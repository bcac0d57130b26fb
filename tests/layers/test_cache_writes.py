"""Writes to A and B that no version counter tells of are seen at the next forward, on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.base import AdapterLayer
from tests.layers.test_cache import LAYERS, assert_right, build, example, make, where_unseen
from tests.layers.two_ranks import Group, over_two_ranks


@pytest.fixture(params=LAYERS)
def layer(request: pytest.FixtureRequest) -> AdapterLayer:
    return make(request.param)


def through_data(tensor: Tensor) -> None:
    tensor.data.mul_(-2)


def through_numpy(tensor: Tensor) -> None:
    tensor.detach().numpy()[:] += 1


def through_fused_step(tensor: Tensor) -> None:
    """Of another Parameter over the same memory, as flattened optimizers have."""
    view = nn.Parameter(tensor.detach().view(-1))
    view.grad = torch.ones_like(view)
    torch._fused_sgd_(
        *([[view.detach()], [view.grad], []]),
        **{"weight_decay": 0.0, "momentum": 0.0, "lr": 1.0, "dampening": 0.0},
        **{"nesterov": False, "maximize": False, "is_first_step": True},
    )


def by_broadcast(tensor: Tensor) -> None:
    other = torch.randn_like(tensor)
    over_two_ranks(
        lambda group: group.broadcast(other, 0).wait(),
        lambda group: group.broadcast(tensor.detach(), 0).wait(),
    )
    assert torch.equal(tensor, other)


def by_all_reduce(tensor: Tensor) -> None:
    def add(tensor: Tensor) -> Callable[[Group], object]:
        return lambda group: group.allreduce([tensor]).wait()

    over_two_ranks(add(torch.ones_like(tensor)), add(tensor.detach()))


def by_receive(tensor: Tensor) -> None:
    other = torch.randn_like(tensor)
    over_two_ranks(
        lambda group: group.send([other], 1, 0).wait(),
        lambda group: group.recv([tensor.detach()], 0, 0).wait(),
    )


def by_scatter(tensor: Tensor) -> None:
    parts = [torch.randn_like(tensor), torch.randn_like(tensor)]
    over_two_ranks(
        lambda group: group.scatter(torch.empty_like(tensor), parts, 0).wait(),
        lambda group: group.scatter(tensor.detach(), [], 0).wait(),
    )


WRITES = [
    through_data,
    through_numpy,
    through_fused_step,
    by_broadcast,
    by_all_reduce,
    by_receive,
    by_scatter,
]


@pytest.mark.parametrize("name", ["lora_A", "lora_B"])
@pytest.mark.parametrize("write", WRITES)
def test_a_write_without_a_version_is_seen(
    layer: AdapterLayer, write: Callable[[Tensor], None], name: str
) -> None:
    x = example(layer)
    before, tensor = build(layer, x), getattr(layer, name)
    version = tensor._version
    write(tensor)
    assert tensor._version == version
    assert_right(layer, x)
    assert not torch.allclose(build(layer, x), before)


@pytest.mark.parametrize("write", WRITES)
def test_a_write_over_all_of_w_is_seen(
    layer: AdapterLayer, write: Callable[[Tensor], None]
) -> None:
    """W is compared in 16 numbers only, so a write to a part of it may not be seen."""
    x = example(layer)
    before = build(layer, x)
    write(layer.base_weight)
    assert_right(layer, x)
    assert not torch.allclose(build(layer, x), before)


def test_a_vector_that_all_parameters_are_views_of_is_seen_to_change(layer: AdapterLayer) -> None:
    parameters = list(layer.parameters())
    vector = nn.utils.parameters_to_vector(parameters).detach()
    nn.utils.vector_to_parameters(vector, parameters)
    x = example(layer)
    for _ in range(2):
        before = build(layer, x)
        vector.mul_(0.5)
        assert_right(layer, x)
        assert not torch.allclose(build(layer, x), before)


class MovingAverage:
    """As torch_ema keeps one: shadows, and a swap through `.data` for evaluation."""

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        self.parameters = list(parameters)
        self.shadows = [p.detach().clone() for p in self.parameters]

    def update(self) -> None:
        for shadow, parameter in zip(self.shadows, self.parameters, strict=True):
            shadow.sub_(0.5 * (shadow - parameter.detach()))

    def swap(self) -> None:
        for shadow, parameter in zip(self.shadows, self.parameters, strict=True):
            held = parameter.detach().clone()
            parameter.data.copy_(shadow.data)
            shadow.copy_(held)


@pytest.mark.parametrize("compiled", [False, True])
def test_a_moving_average_that_is_swapped_in_through_data_is_seen(compiled: bool) -> None:
    model = nn.Sequential(make("linear")).eval()
    average = MovingAverage(model.parameters())
    x = example(model[0])
    forward: Any = torch.compile(model, backend="eager") if compiled else model
    with torch.no_grad(), lora.merged(model):
        for _ in range(3):
            for parameter in (model[0].lora_A, model[0].lora_B):
                parameter.data.normal_()
            average.update()
            own = forward(x)
            assert_right(model[0], x)
            average.swap()
            assert_right(model[0], x)
            assert_close(forward(x), model(x))
            average.swap()
            assert_close(forward(x), own)


def test_memory_that_sharing_freed_hides_no_change() -> None:
    """`share_memory_` moves a tensor; the next one of its size may lie where it lay."""
    for _ in range(20):
        layer = lora.Linear(100, 100, r=10)
        nn.init.normal_(layer.lora_B)
        x = torch.randn(3, 100)
        build(layer, x)
        unseen, before = where_unseen(layer.weight), layer.weight.detach().clone()
        layer.weight.share_memory_()
        layer.weight.data = before + unseen
        assert_right(layer, x)


def test_a_fused_step_that_fails_in_its_second_group_is_seen(layer: AdapterLayer) -> None:
    other = nn.Parameter(torch.ones(2))
    layer.base_weight.requires_grad_(True)
    groups = [{"params": [layer.base_weight]}, {"params": [other], "lr": "none"}]
    optimizer = torch.optim.SGD(groups, lr=0.5, fused=True)
    x = example(layer)
    before = build(layer, x)
    layer.base_weight.grad = where_unseen(layer.base_weight)
    other.grad = torch.ones(2)
    with pytest.raises((TypeError, RuntimeError)):
        optimizer.step()
    assert_right(layer, x)
    assert not torch.allclose(build_uncached(layer, x), before)


def build_uncached(layer: AdapterLayer, x: Tensor) -> Tensor:
    with torch.no_grad():
        y = layer(x)
    assert not layer.merged  # until a step has ended
    return y
