"""One thread trains while another evaluates: no output is of a weight that has passed."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from lorakit.layers import merged_weight
from lorakit.layers.base import AdapterLayer
from tests.layers.test_cache import LAYERS, assert_right, build, example, make, where_unseen


def fused_step(layer: AdapterLayer) -> None:
    for parameter in (layer.lora_A, layer.lora_B):
        parameter.grad = torch.ones_like(parameter)
    SGD([layer.lora_A, layer.lora_B], lr=0.5, fused=True).step()


def fused_step_of_w(layer: AdapterLayer) -> None:
    layer.base_weight.grad = where_unseen(layer.base_weight)
    SGD([layer.base_weight], lr=0.5, fused=True).step()


def scale(layer: AdapterLayer) -> None:
    layer.lora_alpha = 7


def new_parameter(layer: AdapterLayer) -> None:
    layer.lora_A = nn.Parameter(torch.randn_like(layer.lora_A))


def edit(layer: AdapterLayer) -> None:
    layer.lora_A.data.mul_(-2)


CHANGES: list[Callable[[AdapterLayer], None]] = [
    fused_step,
    fused_step_of_w,
    scale,
    new_parameter,
    edit,
]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("kind", LAYERS)
def test_a_change_while_the_weight_is_merged_is_seen(
    kind: str,
    change: Callable[[AdapterLayer], None],
    when: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layer = make(kind)
    layer.base_weight.requires_grad_(True)
    x = example(layer)
    build(layer, x)
    layer.drop_cache()
    merge = merged_weight.merge

    def meanwhile(weight: Tensor, dw: Tensor) -> Tensor:
        monkeypatch.undo()
        made = merge(weight, dw) if when == "after" else None
        thread = threading.Thread(target=partial(change, layer))
        thread.start()
        thread.join()
        return merge(weight, dw) if made is None else made

    monkeypatch.setattr(merged_weight, "merge", meanwhile)
    with torch.no_grad():
        layer(x)
    assert_right(layer, x)


def test_a_weight_merged_during_a_step_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fused step is seen when it begins and when it ends, and not in between."""
    layer = make("linear")
    layer.base_weight.requires_grad_(True)
    x = example(layer)
    build(layer, x)
    optimizer = SGD([layer.base_weight], lr=0.5)
    step = optimizer._init_group

    def evaluate_meanwhile(*arguments: object) -> object:
        with torch.no_grad():
            layer(x)
        kept.append(layer.merged)
        return step(*arguments)

    kept: list[bool] = []
    monkeypatch.setattr(optimizer, "_init_group", evaluate_meanwhile)
    layer.base_weight.grad = torch.ones_like(layer.base_weight)
    optimizer.step()
    assert kept == [False]
    assert_right(layer, x)
    assert layer.merged


def test_threads_that_train_and_evaluate_at_once_leave_no_stale_weight() -> None:
    layers = [make("linear").eval() for _ in range(4)]
    x = example(layers[0])
    ended = threading.Event()
    errors: list[BaseException] = []

    def evaluate() -> None:
        try:
            with torch.no_grad():
                while not ended.is_set():
                    for layer in layers:
                        layer(x)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=evaluate) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(40):
        for layer in layers:
            fused_step(layer)
    ended.set()
    for thread in threads:
        thread.join()
    assert not errors
    for layer in layers:
        assert_right(layer, x)
