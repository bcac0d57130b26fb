"""Classes of converted modules: a registered subclass keeps its own forward and its own methods."""

from __future__ import annotations

import copy
import pickle
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers import conversion
from tests.tolerances import EXACT, TOLERANCES

FP32 = TOLERANCES[torch.float32]


class Counting(nn.Linear):
    """A linear layer that counts its calls and computes in float64."""

    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        wide = nn.functional.linear(input.double(), self.weight.double())
        return (wide + self.bias.double()).to(input.dtype)

    def about(self) -> str:
        return "counting"


class CountingConv(nn.Conv2d):
    calls = 0

    def forward(self, input: Tensor) -> Tensor:
        self.calls += 1
        return super().forward(input)


class Marked(nn.Linear):
    """A subclass without a forward of its own."""


@pytest.fixture(autouse=True)
def registered() -> Iterator[None]:
    before = dict(conversion.ADAPTED), set(conversion._REGISTERED)
    for own in (Counting, Marked):
        lora.layers.register(own, lora.Linear)
    lora.layers.register(CountingConv, lora.Conv2d)
    yield
    conversion.ADAPTED.clear()
    conversion.ADAPTED.update(before[0])
    conversion._REGISTERED.clear()
    conversion._REGISTERED.update(before[1])


def adapted(module: nn.Module, **settings: Any) -> tuple[nn.Sequential, nn.Module]:
    """The model and its only layer, with an update that is not zero."""
    model = nn.Sequential(module).eval()
    options = {"r": 2, "target_modules": ["0"], "init_lora_weights": False} | settings
    lora.inject(model, lora.LoraConfig(**options))
    return model, model[0]


@pytest.mark.parametrize("settings", [{}, {"use_dora": True}, {"slices": {"0": [True, False]}}])
def test_own_forward_gives_the_base_s_part(settings: dict[str, Any]) -> None:
    torch.manual_seed(1)
    plain = Counting(4, 6)
    reference, _ = adapted(nn.Linear(4, 6), **settings)
    model, layer = adapted(plain, **settings)
    model.load_state_dict(reference.state_dict())
    x = torch.randn(3, 4)
    assert_close(model(x), reference(x), **FP32)
    assert (layer.calls, layer.about()) == (1, "counting")
    assert isinstance(layer, Counting)
    assert isinstance(layer, lora.Linear)


def test_own_forward_gives_the_whole_of_a_merged_output() -> None:
    model, layer = adapted(Counting(4, 6))
    x = torch.randn(3, 4)
    expected = model(x)
    with torch.no_grad(), lora.merged(model):
        assert layer.merged
        assert_close(model(x), expected, **FP32)
    assert layer.calls == 2
    assert layer.weight is layer.base_weight


def test_own_forward_of_a_convolution() -> None:
    model, layer = adapted(CountingConv(3, 4, 3))
    x = torch.randn(2, 3, 5, 5)
    update = nn.functional.conv2d(x, layer.delta_weight())
    assert_close(model(x), nn.functional.conv2d(x, layer.weight, layer.bias) + update, **FP32)
    assert layer.calls == 1


def test_gradients_reach_the_adapter_and_the_input_through_it() -> None:
    reference, _ = adapted(nn.Linear(4, 6))
    model, layer = adapted(Counting(4, 6))
    model.load_state_dict(reference.state_dict())
    for module in (reference, model):
        x = torch.ones(3, 4, requires_grad=True)
        module(x).square().sum().backward()
        module.input_gradient = x.grad
    assert_close(layer.lora_A.grad, reference[0].lora_A.grad, **FP32)
    assert_close(layer.lora_B.grad, reference[0].lora_B.grad, **FP32)
    assert_close(model.input_gradient, reference.input_gradient, **FP32)


def test_eject_and_fold_give_the_class_back() -> None:
    model, layer = adapted(Counting(4, 6))
    x = torch.randn(3, 4)
    expected = model(x)
    lora.fold(model)
    assert type(layer) is Counting
    assert_close(model(x), expected, **FP32)
    model, layer = adapted(Counting(4, 6))
    lora.eject(model)
    assert type(layer) is Counting


def test_copies_and_pickles_have_the_same_class() -> None:
    model, layer = adapted(Counting(4, 6))
    x = torch.randn(2, 4)
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(twin[0]) is type(layer)
        assert_close(twin(x), model(x), **EXACT)
        lora.eject(twin)
        assert type(twin[0]) is Counting


def test_a_subclass_without_a_forward_stays_one() -> None:
    model, layer = adapted(Marked(4, 6))
    reference, _ = adapted(nn.Linear(4, 6))
    reference.load_state_dict(model.state_dict())
    assert isinstance(layer, Marked)
    x = torch.randn(3, 4)
    assert_close(model(x), reference(x), **EXACT)


def test_threads_with_and_without_gradient_do_not_see_each_other_s_weight() -> None:
    """One runs merged, the other unmerged, on one layer."""
    model, _ = adapted(Counting(16, 16))
    x = torch.randn(4, 16)
    expected, wrong = model(x).detach(), []

    def run(gradient: bool) -> None:
        for _ in range(50):
            with torch.set_grad_enabled(gradient):
                if not torch.allclose(model(x), expected, atol=1e-5):
                    wrong.append(gradient)

    with lora.merged(model):
        threads = [threading.Thread(target=run, args=(gradient,)) for gradient in (True, False)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong


def test_own_forward_under_a_parent_that_reads_the_weight_adds_the_update_once() -> None:
    torch.manual_seed(0)
    parent = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True).eval()
    parent.linear1 = Counting(8, 16)
    config = lora.LoraConfig(r=2, target_modules=["linear1"], init_lora_weights=False)
    lora.inject(parent, config)
    x = torch.randn(2, 5, 8)
    called, folded = parent(x), copy.deepcopy(parent)
    with torch.no_grad():
        read = parent(x)
    lora.fold(folded)
    assert_close(called, folded(x), **FP32)
    assert_close(read, folded(x), **FP32)


class Means(nn.Linear):
    """Its `scaling` is no adapter's."""

    def __init__(self) -> None:
        super().__init__(4, 4)
        self.scaling = 3.0

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) * self.scaling


class Ranked(nn.Linear):
    def r(self) -> int:
        return 7


@pytest.mark.parametrize(("own", "name"), [(Means, "scaling"), (lambda: Ranked(4, 4), "r")])
def test_a_name_that_an_adapted_layer_uses_is_refused(own: Any, name: str) -> None:
    lora.layers.register(Means, lora.Linear)
    lora.layers.register(Ranked, lora.Linear)
    model = nn.Sequential(own())
    with pytest.raises(
        lora.errors.TargetError, match=f"has its own {name}, a name that adapted layers use"
    ):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))


def test_an_attribute_that_an_adapted_layer_uses_is_refused_and_stays() -> None:
    model = nn.Sequential(nn.Linear(4, 4))
    model[0].variant = "mine"
    with pytest.raises(
        lora.errors.TargetError, match="has its own variant, a name that adapted layers use"
    ):
        lora.inject(model, lora.LoraConfig(r=2, target_modules=["0"]))
    assert model[0].variant == "mine"


class OwnEmbedding(nn.Embedding):
    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input)


def test_own_forward_that_would_write_the_weight_is_refused() -> None:
    lora.layers.register(OwnEmbedding, lora.Embedding)
    config = lora.LoraConfig(r=2, target_modules=["0"])
    with pytest.raises(lora.errors.TargetError, match="max_norm"):
        lora.inject(nn.Sequential(OwnEmbedding(5, 4, max_norm=0.5)), config)
    lora.inject(nn.Sequential(OwnEmbedding(5, 4)), config)
