"""Adapters of parameters that a module reads itself, such as the experts of a mixture.

transformers keeps the experts of a layer as two parameters of one module, and its forward reads
them: there is no child whose forward could be adapted. So the parameter gets a layer of its own,
which has A and B and stands in the module under the parameter's name, and the module changes its
class: while its forward runs, reading the parameter gives W + dW, differentiable in A and B.
Outside of it, and in state_dict, the parameter stays W.

Source: PEFT's `target_parameters`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.layers.base import AdapterLayer
from lorakit.layers.recomputed import Recipe, recomputed
from lorakit.surgery.composition import mix_in, mix_out
from lorakit.variants import ParameterSite

if TYPE_CHECKING:
    from typing import Self


class ModuleParameter(nn.Module):
    """A parameter, seen as a layer; it is in no model until it is adapted."""

    def __init__(self, owner: nn.Module, leaf: str) -> None:
        super().__init__()
        self.__dict__["owner"] = owner  # not its child: it is the owner's
        self.leaf, self.training = leaf, owner.training

    owner: nn.Module
    leaf: str

    @property
    def parameter(self) -> nn.Parameter | None:
        """The parameter itself."""
        return self.owner._parameters.get(self.leaf)


class ParameterLayer(AdapterLayer, ModuleParameter):
    """A parameter with an adapter; `effective_weight` is what its module's forward reads."""

    torch_class = ModuleParameter
    site: ParameterSite

    @classmethod
    def weight_of(cls, module: nn.Module) -> nn.Parameter | None:
        assert isinstance(module, ModuleParameter)
        return module.parameter

    @classmethod
    def weight_path(cls, name: str) -> str:
        return name

    @classmethod
    def site_of(cls, module: nn.Module) -> ParameterSite:
        weight = cls.weight_of(module)
        assert isinstance(module, ModuleParameter)
        assert weight is not None
        if weight.ndim == 2:
            return ParameterSite(weight.shape[1], weight.shape[0])
        transposed = bool(getattr(module.owner, "is_transposed", False))
        out_features, in_features = weight.shape[:0:-1] if transposed else weight.shape[1:]
        return ParameterSite(in_features, out_features, weight.shape[0], transposed)

    def attach(self, *args: Any, **kwargs: Any) -> None:
        super().attach(*args, **kwargs)
        self.owner._modules[self.leaf] = self
        mix_in(self.owner, ReadsAdapted)

    @classmethod
    def give_back(cls, module: nn.Module, weight: nn.Parameter | None) -> None:
        assert isinstance(module, ModuleParameter)
        owner = module.owner
        if weight is not None:
            owner._parameters[module.leaf] = weight
        if owner._modules.get(module.leaf) is module:
            del owner._modules[module.leaf]
        if not _layers(owner):
            mix_out(owner, ReadsAdapted)

    @property
    def base_weight(self) -> Tensor:
        weight = self.parameter
        assert weight is not None
        return weight

    @property
    def _own_tensors(self) -> Mapping[str, Tensor]:
        own: Any = self._parameters  # never a replica of DataParallel, which its module refuses
        tensors: Mapping[str, Tensor] = own
        return tensors

    def effective_weight(self) -> Tensor:
        return self.read()[0]

    def read(self) -> tuple[Tensor, Recipe | None]:
        """W + dW, in the type of W, or the cache where it may be used; and how to compute it."""
        weight = self.base_or_merged_weight()
        if weight is not None:
            return weight, None
        if not self.variant.is_low_rank:
            return self.folded_weight(), None
        a, b = self.adapter_tensors()
        recipe = Recipe(self.base_weight, a, b, self.scaling, self.site)
        return recipe.computed(), recipe


class ReadsAdapted(nn.Module):
    """A mixin in front of a module's class: its forward reads W + dW of the adapted parameters."""

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        before = _here.weights
        own = {(id(self), name): layer.read() for name, layer in _layers(self).items()}
        _here.weights = {**before, **{place: weight for place, (weight, _) in own.items()}}
        made = [(weight, recipe) for weight, recipe in own.values() if recipe is not None]
        try:
            with recomputed(made):
                return super().forward(*args, **kwargs)
        finally:
            _here.weights = before

    def __getattr__(self, name: str) -> Any:
        found = _here.weights.get((id(self), name))
        return super().__getattr__(name) if found is None else found

    def __setattr__(self, name: str, value: Any) -> None:
        """As torch, but a new Parameter leaves the layer of its name where it is."""
        layer = _layers(self).get(name)
        if layer is None or not isinstance(value, nn.Parameter):
            super().__setattr__(name, value)
        else:
            self.register_parameter(name, value)
            layer.drop_cache()

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        """As the layers do it by themselves, whose weights are moved after them."""
        waiting = [
            (layer, {name: tensor.detach() for name, tensor in layer.adapter.tensors.items()})
            for layer in _layers(self).values()
            if layer.base_weight.is_meta
        ]
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for layer, values in waiting:
            if not layer.base_weight.is_meta:
                layer._fill_after_to_empty(values)
        return self

    def _replicate_for_data_parallel(self) -> Self:
        raise StateError(
            f"nn.DataParallel does not support adapted parameters of {type(self).__name__}; run "
            "one process for each GPU instead: torchrun --nproc-per-node=gpu ..."
        )


class _Thread(threading.local):
    def __init__(self) -> None:
        self.weights: dict[tuple[int, str], Tensor] = {}
        """What the forward that runs here reads, by the module's identity and the name."""


_here = _Thread()


def _layers(owner: nn.Module) -> dict[str, ParameterLayer]:
    return {n: m for n, m in owner._modules.items() if isinstance(m, ParameterLayer)}
