"""One linear layer, adapted by each library in the way that its own documentation shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec

import torch
import torch.nn.functional as F
from torch import Tensor, nn

RANK, ALPHA = 8, 16


@dataclass(frozen=True)
class Peer:
    """The module that is called, its W, A and B, and a context in which it is merged."""

    layer: nn.Module
    weight: Tensor
    a: Tensor
    b: Tensor
    merged: Callable[[], AbstractContextManager[object]]


def loralib(base: nn.Linear) -> Peer:
    from loralib import Linear

    layer = Linear(base.in_features, base.out_features, r=RANK, lora_alpha=ALPHA)
    layer.to(base.weight).load_state_dict(base.state_dict(), strict=False)
    merged = partial(between, layer.eval, layer.train)
    return Peer(layer, layer.weight, layer.lora_A, layer.lora_B, merged)


def peft(base: nn.Linear) -> Peer:
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"])
    model = get_peft_model(nn.Sequential(deepcopy(base)), config).eval()
    layer = model.base_model.model[0]
    a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    merged = partial(between, model.merge_adapter, model.unmerge_adapter)
    return Peer(layer, layer.base_layer.weight, a, b, merged)


def lorakit(base: nn.Linear) -> Peer:
    import lorakit as lora

    model = nn.Sequential(deepcopy(base)).eval()
    lora.inject(model, lora.LoraConfig(r=RANK, lora_alpha=ALPHA, target_modules=["0"]))
    layer = model[0]
    return Peer(layer, layer.weight, layer.lora_A, layer.lora_B, partial(lora.merged, model))


INSTALLED = {make.__name__: make for make in (loralib, peft, lorakit) if find_spec(make.__name__)}


@contextmanager
def between(before: Callable[[], object], after: Callable[[], object]) -> Iterator[None]:
    before()
    yield
    after()


def set_update(peer: Peer, base: nn.Linear, size: float, seed: int) -> None:
    """Random A and B with ||scaling * B A|| = size * ||W||, the same for each library."""
    draws = torch.Generator(base.weight.device).manual_seed(seed)
    options = {"device": base.weight.device, "generator": draws}
    a = torch.randn(RANK, base.in_features, **options) / base.in_features**0.5
    b = torch.randn(base.out_features, RANK, **options)
    b *= size * base.weight.float().norm() / ((b @ a).norm() * ALPHA / RANK)
    with torch.no_grad():
        peer.a.copy_(a)
        peer.b.copy_(b)


@torch.no_grad()
def assert_computes_lora(peer: Peer, base: nn.Linear, x: Tensor) -> None:
    """Unmerged and merged, the layer computes x W^T + b + alpha / r * x A^T B^T."""
    update = x @ peer.a.T @ peer.b.T * (ALPHA / RANK)
    assert update.abs().max() > 1e-2, "the update is too small for a check"
    expected = F.linear(x, base.weight, base.bias) + update
    torch.testing.assert_close(peer.layer(x), expected)
    with peer.merged():
        torch.testing.assert_close(peer.layer(x), expected)
