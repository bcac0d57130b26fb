"""Adapted experts are not kept for backward, and the gradients are what they are with them."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.recomputed import Recipe
from tests.injection import moe
from tests.tolerances import EXACT, MODEL

KERNELS = ["eager", "grouped_mm", "batched_mm"]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The weights that forwards compute, as long as something holds them."""
    found: list[Any] = []
    plain = Recipe.computed

    def watched(self: Recipe) -> Tensor:
        weight = plain(self)
        found.append(weakref.ref(weight.untyped_storage()))
        return weight

    monkeypatch.setattr(Recipe, "computed", watched)
    return found


def adapted(name: str, kernel: str) -> Any:
    model = moe.model_of(name)
    model.set_experts_implementation(kernel)
    torch.manual_seed(1)
    lora.inject(model, lora.LoraConfig(r=2, **moe.ALONE, init_lora_weights=False))
    return model


def gradients(model: Any, loss: Tensor) -> dict[str, Tensor]:
    loss.backward()
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def as_it_is(tensor: Tensor) -> Tensor:
    return tensor


@pytest.mark.parametrize("kernel", ["eager", "grouped_mm"])
@pytest.mark.parametrize("name", ["mixtral", "gpt_oss"])
def test_weights_are_gone_between_forward_and_backward(
    name: str, kernel: str, made: list[Any]
) -> None:
    model = adapted(name, kernel)
    loss = moe.logits(model).square().sum()
    assert len(made) == 4
    assert not [ref for ref in made if ref() is not None]
    found = gradients(model, loss)
    with torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
        kept = moe.logits(model).square().sum()
    assert [ref for ref in made if ref() is not None]
    assert_close(found, gradients(model, kept), **MODEL)


@pytest.mark.parametrize("kernel", KERNELS)
def test_gradients_are_those_of_weights_that_are_kept(kernel: str) -> None:
    model = adapted("mixtral", kernel)
    found = gradients(model, moe.logits(model).square().sum())
    with torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
        kept = moe.logits(model).square().sum()
    assert len(found) == 8
    assert_close(found, gradients(model, kept), **MODEL)


def test_a_change_between_forward_and_backward_is_an_error() -> None:
    model = adapted("mixtral", "eager")
    loss = moe.logits(model).sum()
    with torch.no_grad():
        model.model.layers[0].mlp.experts._modules["down_proj"].lora_A.add_(1)
    with pytest.raises(RuntimeError, match="changed in place since the forward"):
        loss.backward()


def test_gradients_of_gradients_go_through_what_is_computed_again() -> None:
    model = adapted("mixtral", "eager")
    model.set_attn_implementation("eager")
    parameters = [p for p in model.parameters() if p.requires_grad]

    def second() -> tuple[Tensor, ...]:
        loss = moe.logits(model).square().sum()
        first = torch.autograd.grad(loss, parameters, create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), parameters)

    found = second()
    with torch.autograd.graph.saved_tensors_hooks(as_it_is, as_it_is):
        kept = second()
    assert_close(found, kept, rtol=1e-4, atol=1e-4)


def test_gradient_checkpointing_keeps_what_it_keeps() -> None:
    """Its own hooks hold nothing of a layer; ours inside them would hold its activations."""
    model = adapted("mixtral", "eager").train()
    expected = gradients(model, moe.logits(model).square().sum())
    model.activation_checkpointing_enable()
    assert_close(gradients(model, moe.logits(model).square().sum()), expected, **EXACT)
