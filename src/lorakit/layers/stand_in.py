"""An adapter beside a module that does not hold it: a layer that shares the module's tensors.

An `AdapterSet` keeps the adapters of a module in its own storage. To compute with one of them, the
module has a stand-in: a layer of its class with this adapter, whose parameters, buffers and
children are the module's own, whatever becomes of them. It is in no model, so no walk over modules,
no state_dict and no optimizer meets it.
"""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from lorakit.layers.base import AdapterLayer
from lorakit.surgery.composition import composed
from lorakit.variants import AdapterSpec, LinearSite, ModuleAdapter
from lorakit.variants.registry import find

Own = Mapping[str, Tensor]
"""What an adapter brings in place of a module's own parameters, by name: a head, a bias."""


class StandIn(nn.Module):
    """A module that shares another one's tensors, but for those in `own`."""

    _host: nn.Module

    @property
    def training(self) -> bool:  # type: ignore[override]
        """That of the module."""
        return self._host.training


class AdapterStandIn(StandIn, AdapterLayer):
    """A layer with an adapter, beside the module that it adapts."""

    _tensors: Mapping[str, Tensor]
    _may_merge: bool

    @property
    def _merging(self) -> bool:  # type: ignore[override]
        """Whether it may cache a merged weight; see `lorakit.merged`."""
        merging: bool = self._host._merging  # type: ignore[assignment]
        return merging and self._may_merge

    @property
    def _own_tensors(self) -> Mapping[str, Tensor]:
        return self._tensors

    def forward(self, input: Tensor) -> Tensor:
        spec = self.spec
        if spec.merge_weights or self._merging or not spec.r:
            weight = self.base_or_merged_weight()
            if weight is not None:
                return self.plain(input, weight)
        dropout = spec.lora_dropout if self.training else 0.0
        return self.variant.forward(self, input, self._tensors, self.scaling, dropout)

    def write(self, input: Tensor, output: Tensor) -> None:
        """Turn the module's own output for this input into that with the adapter, in place."""
        shares_all = type(self._parameters) is dict
        if self.variant.is_low_rank and shares_all and isinstance(self.site, LinearSite):
            a, b = self._tensors["lora_A"], self._tensors["lora_B"]
            output.add_(self.low_rank(input, a, b, 0.0), alpha=self.scaling)
        else:
            output.copy_(self(input))


class _Rounded(dict[str, Any]):
    """Tensors that read in the types of the module's own: what trains is float32."""

    def __init__(self, own: Own, module: nn.Module) -> None:
        super().__init__(own)
        self._like = module._parameters

    def __getitem__(self, name: str) -> Tensor:
        tensor, like = super().__getitem__(name), self._like[name]
        rounded: Tensor = tensor if like is None else tensor.to(like.dtype)
        return rounded


def stand_in(
    module: nn.Module,
    bases: Sequence[type[nn.Module]],
    adapter: ModuleAdapter | None = None,
    own: Own | None = None,
    may_merge: bool = True,
) -> nn.Module:
    """A stand-in of the class with these bases for `module`.

    It has this adapter, whose site is resolved, and the parameters in `own`; both are not copied.
    Unless it `may_merge`, it never has a merged weight of its own.
    """
    is_layer = any(issubclass(base, AdapterLayer) for base in bases)
    kind = composed((AdapterStandIn if is_layer else StandIn, *bases))
    made: Any = kind.__new__(kind)
    attributes = {**module.__dict__, "_host": module}
    attributes.pop("training")
    attributes.pop("forward", None)  # one on the instance has called the class's, which is here
    if own:
        attributes["_parameters"] = ChainMap(_Rounded(own, module), module._parameters)
    if is_layer:
        spec = AdapterSpec(0) if adapter is None else adapter.spec
        spec = replace(spec, merge_weights=spec.merge_weights and may_merge)
        tensors = {} if adapter is None else adapter.tensors
        attributes |= {"spec": spec, "scaling": spec.scaling, "_tensors": tensors}
        attributes |= {"variant": find(spec.variant), "_may_merge": may_merge}
        if adapter is not None and adapter.site is not None:
            attributes["site"] = adapter.site
    made.__dict__.update(attributes)
    stand: nn.Module = made
    return stand
