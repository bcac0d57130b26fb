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
from typing import Any, ClassVar

from torch import Tensor, nn

from lorakit.functional.token_rows import Rows
from lorakit.layers.base import AdapterLayer
from lorakit.surgery.composition import bases_of, composed


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

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if OwnForward in cls.__bases__:
            cls.own_class = cls.__bases__[-1]

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

    def with_rows(self, input: Tensor, rows: Rows, values: Tensor) -> Tensor:
        return AdapterLayer.with_rows(self, input, rows, values)


_in_place_of = threading.local()


def _given(layer: AdapterLayer) -> Tensor | None:
    """The weight with which this thread runs the layer's own forward now."""
    found: Tensor | None = getattr(_in_place_of, "weights", {}).get(id(layer))
    return found


def of_subclass(leaf: type[AdapterLayer], original: type[nn.Module]) -> type[AdapterLayer]:
    """The class with which `leaf` adapts modules of a subclass of its torch class."""
    if original.forward is leaf.torch_class.forward:
        return _composed(leaf, original)
    return _composed(OwnForward, leaf, original)


def merged_on_read(adapted: type[AdapterLayer]) -> type[AdapterLayer]:
    """The same class with a weight that reads as W + dW."""
    if issubclass(adapted, MergedOnRead):
        return adapted
    return _composed(MergedOnRead, *bases_of(adapted))


def _composed(*bases: type[nn.Module]) -> type[AdapterLayer]:
    made: Any = composed(bases)
    kind: type[AdapterLayer] = made
    return kind
