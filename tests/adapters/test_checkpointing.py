"""Gradient checkpointing: a recomputed layer has the rows of its forward, or says so."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from lorakit import AdapterSet, LoraConfig
from lorakit.errors import StateError
from tests.adapters.test_rows import IDS
from tests.injection import zoo
from tests.tolerances import MODEL

NAMES = ["b", None, "a", "a"]


def trained_set(model: nn.Module) -> AdapterSet:
    adapters = AdapterSet(model.train())
    torch.manual_seed(3)
    for name, r in {"a": 2, "b": 4}.items():
        config = LoraConfig(r=r, lora_dropout=0.2, target_modules="all-linear")
        adapters.add(name, config)
        for parameter in adapters.parameters(name):
            nn.init.normal_(parameter, std=0.3)
    return adapters


def enable(model: Any, **settings: Any) -> None:
    model.activation_checkpointing_enable(settings)


def loss_of(model: Any) -> Tensor:
    torch.manual_seed(7)  # of dropout
    loss: Tensor = model(IDS[:4], labels=IDS[:4], use_cache=False).loss
    return loss


def gradients(adapters: AdapterSet) -> dict[str, Tensor | None]:
    return {
        f"{name}: {key}": parameter.grad
        for name in "ab"
        for key, parameter in adapters.named_parameters(name)
    }


def expected() -> dict[str, Tensor | None]:
    adapters = trained_set(zoo.llama())
    with adapters.rows(NAMES):
        loss_of(adapters.model).backward()
    return gradients(adapters)


def test_rows_are_carried_out_of_their_block() -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False, context_fn=adapters.context_fn)
    with adapters.rows(NAMES):
        loss = loss_of(adapters.model)
    adapters.activate("b")
    with adapters.rows(["b", "b"]):  # other rows than those of the forward
        loss.backward()
    assert_close(gradients(adapters), expected(), **MODEL)


def test_a_second_backward_has_them_too() -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False, context_fn=adapters.context_fn)
    with adapters.rows(NAMES):
        loss = loss_of(adapters.model)
    loss.backward(retain_graph=True)
    once = {
        key: grad if grad is None else grad.clone() for key, grad in gradients(adapters).items()
    }
    loss.backward()
    for key, grad in gradients(adapters).items():
        assert_close(grad, None if once[key] is None else 2 * once[key], **MODEL, msg=key)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("inside", [False, True])
def test_a_layer_that_recomputes_without_them_raises(reentrant: bool, inside: bool) -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=reentrant)
    adapters.model.enable_input_require_grads()  # type: ignore[operator]
    with adapters.rows(NAMES):
        loss = loss_of(adapters.model)
        if inside:
            with pytest.raises(StateError, match="re-entrant kind"):
                loss.backward()
    if not inside:
        with pytest.raises(StateError, match=r"recomputed.*context_fn=adapters\.context_fn"):
            loss.backward()


def test_a_checkpoint_of_ones_own() -> None:
    adapters = trained_set(zoo.sequential())
    x = torch.randn(2, 3, 8)
    model = adapters.model
    with adapters.rows(["a", "b"]):
        torch.manual_seed(7)
        model(x).square().sum().backward()
    plain = gradients(adapters)
    for name in "ab":
        for parameter in adapters.parameters(name):
            parameter.grad = None
    carried = partial(checkpoint, use_reentrant=False, context_fn=adapters.context_fn)
    with adapters.rows(["a", "b"]):
        torch.manual_seed(7)
        y = carried(model, x)
    y.square().sum().backward()
    assert_close(gradients(adapters), plain, **MODEL)


def test_a_set_without_rows_needs_none() -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False)
    adapters.activate("a")
    loss_of(adapters.model).backward()
    assert all(parameter.grad is not None for parameter in adapters.parameters("a"))


def test_another_default_than_that_of_the_forward_raises() -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False)
    adapters.activate("a")
    loss = loss_of(adapters.model)
    adapters.activate("b")
    with pytest.raises(StateError, match=r"there were others.*context_fn=adapters\.context_fn"):
        loss.backward()


@pytest.mark.parametrize("together", [False, True])
def test_no_forward_recomputes_with_the_default_of_a_later_one(together: bool) -> None:
    """The backward pass of the first comes after the forward of the second, or is that of both."""
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False)
    adapters.activate("a")
    first = loss_of(adapters.model)
    adapters.activate("b")
    second = loss_of(adapters.model)
    with pytest.raises(StateError, match="recomputed"):
        (first + second if together else first).backward()


def test_a_default_is_carried_too() -> None:
    adapters = trained_set(zoo.llama())
    adapters.activate("a")
    loss_of(adapters.model).backward()
    plain = gradients(adapters)
    for parameter in adapters.parameters("a"):
        parameter.grad = None
    enable(adapters.model, use_reentrant=False, context_fn=adapters.context_fn)
    loss = loss_of(adapters.model)
    adapters.activate("b")
    loss.backward()
    assert_close(gradients(adapters), plain, **MODEL)


def test_evaluation_of_others_in_between_needs_no_context() -> None:
    adapters = trained_set(zoo.llama())
    enable(adapters.model, use_reentrant=False)
    for _ in range(2):
        adapters.activate("a")
        loss_of(adapters.model.train()).backward()
        adapters.activate("b")
        with torch.no_grad():
            loss_of(adapters.model.eval())
    assert all(parameter.grad is not None for parameter in adapters.parameters("a"))
    assert all(parameter.grad is None for parameter in adapters.parameters("b"))
