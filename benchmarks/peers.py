"""A model, adapted by each library in the way that its own documentation shows."""

from __future__ import annotations

import re
import warnings
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
class Adapter:
    """What is adapted (the last part of a module's name) and how."""

    targets: tuple[str, ...]
    rank: int = RANK
    dropout: float = 0.0
    dora: bool = False

    @property
    def settings(self) -> dict[str, object]:
        """As PEFT and lorakit name them."""
        names = {"target_modules": list(self.targets), "lora_dropout": self.dropout}
        return {"r": self.rank, "lora_alpha": ALPHA, "use_dora": self.dora, **names}


@dataclass(frozen=True)
class Adapted:
    """The model that is called, and a context in which it is merged."""

    model: nn.Module
    merged: Callable[[], AbstractContextManager[object]]


def loralib(model: nn.Module, adapter: Adapter) -> Adapted:
    """Its layers in the place of the model's; A and B have the dtype of the base."""
    import loralib as lib

    for name, base in list(model.named_modules()):
        parent, _, leaf = name.rpartition(".")
        if leaf in adapter.targets and isinstance(base, nn.Linear):
            options = {"lora_dropout": adapter.dropout, "bias": base.bias is not None}
            sizes = base.in_features, base.out_features
            layer = lib.Linear(*sizes, r=adapter.rank, lora_alpha=ALPHA, **options)
            layer.to(base.weight).load_state_dict(base.state_dict(), strict=False)
            setattr(model.get_submodule(parent), leaf, layer)
    lib.mark_only_lora_as_trainable(model)
    layers = [module for module in model.modules() if isinstance(module, lib.Linear)]
    return Adapted(model, partial(between, *(partial(switch, layers, m) for m in (False, True))))


def peft(model: nn.Module, adapter: Adapter) -> Adapted:
    from peft import LoraConfig, get_peft_model

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        wrapped = get_peft_model(model, LoraConfig(**adapter.settings))  # reads a renamed name
    return Adapted(wrapped, partial(between, wrapped.merge_adapter, wrapped.unmerge_adapter))


def lorakit(model: nn.Module, adapter: Adapter) -> Adapted:
    import lorakit as lora

    lora.inject(model, lora.LoraConfig(**adapter.settings))
    return Adapted(model, partial(lora.merged, model))


INSTALLED = {make.__name__: make for make in (loralib, peft, lorakit) if find_spec(make.__name__)}


@contextmanager
def between(before: Callable[[], object], after: Callable[[], object]) -> Iterator[None]:
    before()
    yield
    after()


def switch(layers: list[nn.Module], training: bool) -> None:
    for layer in layers:  # loralib's layers return None, so nn.Module.train cannot walk through
        layer.train(training)


def factors(model: nn.Module) -> dict[str, nn.Parameter]:
    """Every A and B by a name that is the same in each library, sorted.

    loralib and lorakit say `query.lora_A`, PEFT `base_model.model.query.lora_A.default.weight`.
    """
    noise = re.compile(r"^base_model\.model\.|\.default\.weight$")
    named = {
        noise.sub("", name): p
        for name, p in model.named_parameters()
        if "lora_A" in name or "lora_B" in name
    }
    return dict(sorted(named.items()))


@torch.no_grad()
def set_factors(model: nn.Module, seed: int) -> None:
    """Random A and B, so small that the activations stay ordinary; the same for each library."""
    for turn, factor in enumerate(factors(model).values()):
        draws = torch.Generator(factor.device).manual_seed(seed + turn)
        values = torch.randn(factor.shape, device=factor.device, generator=draws)
        factor.copy_(values * 0.2 / max(factor.shape) ** 0.5)


@dataclass(frozen=True)
class Peer:
    """One adapted linear layer: the module that is called, its W, A and B."""

    layer: nn.Module
    weight: Tensor
    a: Tensor
    b: Tensor
    merged: Callable[[], AbstractContextManager[object]]


def adapted_layer(
    library: str, base: nn.Linear, rank: int = RANK, dropout: float = 0.0, training: bool = False
) -> Peer:
    """A copy of this layer, adapted; loralib's always trains, since its `eval` merges."""
    model = nn.Sequential(deepcopy(base)).train(training)
    adapted = INSTALLED[library](model, Adapter(("0",), rank, dropout))
    a, b = factors(adapted.model).values()
    layer = model[0]
    weight = getattr(layer, "base_layer", layer).weight
    return Peer(layer, weight, a, b, adapted.merged)


def set_update(peer: Peer, base: nn.Linear, size: float, seed: int) -> None:
    """Random A and B with ||scaling * B A|| = size * ||W||, the same for each library."""
    draws = torch.Generator(base.weight.device).manual_seed(seed)
    options = {"device": base.weight.device, "generator": draws}
    a = torch.randn(peer.a.shape, **options) / base.in_features**0.5
    b = torch.randn(peer.b.shape, **options)
    b *= size * base.weight.float().norm() / ((b @ a).norm() * scaling(peer))
    with torch.no_grad():
        peer.a.copy_(a)
        peer.b.copy_(b)


def scaling(peer: Peer) -> float:
    return ALPHA / peer.a.shape[0]


@torch.no_grad()
def assert_computes_lora(peer: Peer, base: nn.Linear, x: Tensor) -> None:
    """Unmerged and merged, the layer computes x W^T + b + alpha / r * x A^T B^T."""
    update = x @ peer.a.T @ peer.b.T * scaling(peer)
    assert update.abs().max() > 1e-2, "the update is too small for a check"
    expected = F.linear(x, base.weight, base.bias) + update
    torch.testing.assert_close(peer.layer(x), expected)
    with peer.merged():
        torch.testing.assert_close(peer.layer(x), expected)
