"""`inject`, `eject` and `fold`, interrupted or failing anywhere, are done wholly or not at all."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

import lorakit as lora
from lorakit.layers.base import AdapterLayer
from lorakit.layers.conversion import lora_layers
from tests.injection.checks import assert_same, snapshot
from tests.injection.interrupting import interrupted
from tests.injection.test_disabled import Net, output
from tests.tolerances import EXACT

CONFIG = lora.LoraConfig(
    r=2,
    target_modules=["body.0", "body.2"],
    modules_to_save=["head"],
    bias="lora_only",
    init_lora_weights=False,
)
X = torch.linspace(-1, 1, 12).view(2, 6)


def plain(dtype: torch.dtype = torch.float32) -> nn.Module:
    torch.manual_seed(0)
    return Net().eval().to(dtype)


@torch.no_grad()
def adapted(dtype: torch.dtype = torch.float32) -> nn.Module:
    model = plain(dtype)
    lora.inject(model, CONFIG)
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.add_(0.3)
    return model


def types(model: nn.Module) -> list[type]:
    return [type(module) for module in model.modules()]


def is_plain(model: nn.Module) -> bool:
    """Whether no trace of an adapter is left; half of the traces are an error."""
    clean = types(model) == types(plain())
    if clean:
        assert not any("lora" in name for name, _ in model.named_parameters())
        assert not any("lora" in name for module in model.modules() for name in vars(module))
        attributes = [sorted(vars(module)) for module in model.modules()]
        assert attributes == [sorted(vars(module)) for module in plain().modules()]
        assert all(parameter.requires_grad for parameter in model.parameters())
    else:
        assert len(list(lora_layers(model))) == 2
        with lora.disabled(model):
            assert_close(output(model, X), output(plain(), X), **EXACT)
    return clean


@pytest.mark.parametrize("act", [lora.eject, lora.fold])
def test_an_interrupt_at_any_line_leaves_all_or_nothing(act: Callable[[nn.Module], Any]) -> None:
    trained, base = output(adapted(), X), output(plain(), X)
    done, at = set(), 0
    while True:
        model = adapted()
        if not interrupted(partial(act, model), at):
            break
        gone = is_plain(model)
        done.add(gone)
        expected = base if gone and act is lora.eject else trained
        assert_close(output(model, X), expected, rtol=1e-5, atol=1e-6)
        at += 31
    assert done == {True, False}
    assert at > 100


def test_an_interrupt_at_any_line_of_inject_leaves_the_plain_model() -> None:
    base, at = output(plain(), X), 0
    model = plain()
    before = snapshot(model)
    while interrupted(partial(lora.inject, model, CONFIG), at):
        if is_plain(model):
            assert_same(before, snapshot(model))
        else:  # all was done, and its report was not
            lora.eject(model)
        assert_close(output(model, X), base, **EXACT)
        at += 61
    assert at > 1000
    assert len(list(lora_layers(model))) == 2


def test_a_weight_that_cannot_be_merged_leaves_the_adapters(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = adapted()
    before, expected = snapshot(model), output(model, X)
    folded, calls = AdapterLayer.folded_weight, iter([True, False])

    def once(layer: AdapterLayer) -> Tensor:
        if next(calls):
            return folded(layer)
        raise MemoryError("no room for another weight")

    monkeypatch.setattr(AdapterLayer, "folded_weight", once)
    with pytest.raises(MemoryError, match="no room"):
        lora.fold(model)
    assert_same(before, snapshot(model))
    assert_close(output(model, X), expected, **EXACT)


def test_a_narrow_base_is_folded_wholly_too() -> None:
    expected = output(adapted(torch.bfloat16), X.bfloat16())
    for at in range(0, 10_000, 97):
        model = adapted(torch.bfloat16)
        if not interrupted(partial(lora.fold, model), at):
            break
        assert_close(output(model, X.bfloat16()), expected, rtol=0.05, atol=0.05)
        dtypes = {parameter.dtype for parameter in model.parameters()}
        assert (dtypes == {torch.bfloat16}) == (type(model.head) is nn.Linear)
    assert at > 100
