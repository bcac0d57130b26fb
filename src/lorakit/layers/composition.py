"""Classes of converted modules, composed of mixins.

A converted module stays the same object and changes its class, mostly to a leaf such as `Linear`.
Two mixins are added where needed:

- `MergedOnRead`, for a child whose parent computes with `child.weight` and never calls its forward:
  reading the weight returns W + dW;
- `OwnForward`, for a registered subclass of a torch layer: with W, or with a merged weight, it runs
  its own forward.

In both, the parameter named weight stays W.
"""

from __future__ import annotations

import threading
from functools import cache
from typing import Any, ClassVar

from torch import Tensor, nn

from lorakit.layers.base import AdapterLayer


class MergedOnRead(AdapterLayer):
    """A layer whose `weight` reads as W + dW, with its gradient."""

    @property
    def weight(self) -> Tensor:
        """W + dW, or inside `OwnForward.plain` the weight in its place."""
        found = _given(self)
        return self.effective_weight() if found is None else found

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self.__dict__["weight"] = value  # of a replica of DataParallel


class OwnForward(AdapterLayer):
    """A layer that runs the forward of its original class, with the weight that `plain` gets."""

    own_class: ClassVar[type[nn.Module]]

    @property
    def weight(self) -> Tensor:
        """W, or inside `plain`, in this thread, the weight that it was given."""
        found = _given(self)
        return self.base_weight if found is None else found

    @weight.setter
    def weight(self, value: Tensor) -> None:
        self.__dict__["weight"] = value  # of a replica of DataParallel

    def plain(self, input: Tensor, weight: Tensor) -> Tensor:
        weights = _in_place_of.__dict__.setdefault("weights", {})
        weights[id(self)] = weight
        try:
            output: Tensor = self.own_class.forward(self, input)
        finally:
            del weights[id(self)]
        return output

    def adapted(self, input: Tensor, a: Tensor, b: Tensor, s: float, dropout: float) -> Tensor:
        return AdapterLayer.adapted(self, input, a, b, s, dropout)


_in_place_of = threading.local()


def _given(layer: AdapterLayer) -> Tensor | None:
    """The weight with which this thread runs the layer's own forward now."""
    found: Tensor | None = getattr(_in_place_of, "weights", {}).get(id(layer))
    return found


def of_subclass(leaf: type[AdapterLayer], original: type[nn.Module]) -> type[AdapterLayer]:
    """The class with which `leaf` adapts modules of a subclass of its torch class."""
    if original.forward is leaf.torch_class.forward:
        return composed((leaf, original))
    return composed((OwnForward, leaf, original))


def merged_on_read(adapted: type[AdapterLayer]) -> type[AdapterLayer]:
    """The same class with a weight that reads as W + dW."""
    return adapted if issubclass(adapted, MergedOnRead) else composed((MergedOnRead, adapted))


@cache
def composed(bases: tuple[type[nn.Module], ...]) -> type[AdapterLayer]:
    """The class with these bases, one for all modules, which can be copied and pickled."""
    name = "".join(base.__name__ for base in bases)
    body = {"__module__": __name__, "__reduce_ex__": _reduce, "_bases": bases}
    made: type[AdapterLayer] = type(name, bases, body)
    if bases[0] is OwnForward:
        made.own_class = bases[-1]  # type: ignore[attr-defined]
    return made


def _reduce(module: Any, protocol: int) -> tuple[Any, ...]:
    """For copy and pickle, which look a class up by its name: its bases instead."""
    reduced: Any = nn.Module.__reduce_ex__(module, protocol)
    return (_empty, (type(module)._bases,), *reduced[2:])


def _empty(bases: tuple[type[nn.Module], ...]) -> AdapterLayer:
    made = composed(bases)
    instance: AdapterLayer = made.__new__(made)
    return instance
