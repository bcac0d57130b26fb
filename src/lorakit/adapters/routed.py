"""Modules that run the adapter which their set chooses, here and now.

A mixin in front of the module's class. The module keeps its parameters and names and has no state
of an adapter: each forward asks its place for a plan, and without one computes as the base does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorakit.adapters.compiled import write_adapter
from lorakit.adapters.compiled_training import with_adapter
from lorakit.adapters.place import Place
from lorakit.errors import StateError
from lorakit.layers.base import AdapterLayer

if TYPE_CHECKING:
    from typing import Self

ATTRIBUTE = "_lorakit_place"


class Routed(nn.Module):
    """A module of which a set has tensors, such as a head, or an adapter of its weight."""

    _lorakit_place: Place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling():
            return self._compiled_forward(*args, **kwargs)
        plan = self._lorakit_place.plan()
        return self.base_forward(*args, **kwargs) if plan is None else plan(*args, **kwargs)

    def _compiled_forward(self, *args: Any, **kwargs: Any) -> Any:
        output = self.base_forward(*args, **kwargs)
        input, place = (*args, *kwargs.values())[0], self._lorakit_place
        if torch.is_grad_enabled():
            return with_adapter(input, output, place.number, place.routing.trains)
        write_adapter(input, output, place.number)
        return output

    def base_forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes without an adapter."""
        return super().forward(*args, **kwargs)

    def _replicate_for_data_parallel(self) -> Self:
        raise StateError(
            "DataParallel computes in threads of its own, which have no rows; a model with an "
            "AdapterSet runs without it."
        )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._lorakit_place.apply(fn)
        self._lorakit_place.routing.forget(self._lorakit_place)
        return self


class RoutedWeight(AdapterLayer):
    """A layer without an adapter of its own, whose weight reads as that of the chosen one."""

    is_shared = True
    _lorakit_place: Place

    @property
    def acting(self) -> AdapterLayer | None:  # type: ignore[override]
        """The stand-in with the adapter that all rows have here and now, if there is one."""
        plan = self._lorakit_place.plan()
        return plan if isinstance(plan, AdapterLayer) and plan.r else None

    def effective_weight(self) -> Tensor:
        plan = self._lorakit_place.plan()
        if plan is None:
            return self.base_weight
        if isinstance(plan, AdapterLayer):
            return plan.effective_weight()
        raise StateError(
            f"{self._lorakit_place.name} has its weight read by a module that never calls its "
            "forward, so the rows of a batch cannot have adapters of their own there."
        )

    def build_cache(self) -> Tensor | None:
        acting = self.acting
        return None if acting is None else acting.build_cache()

    def drop_cache(self) -> None:
        super().drop_cache()
        if (place := self.__dict__.get(ATTRIBUTE)) is not None:
            place.routing.forget(place)


class RoutedLayer(Routed, RoutedWeight):
    """A layer whose forward computes with the chosen adapter."""

    def base_forward(self, input: Tensor) -> Tensor:
        return self.plain(input, self.base_weight)
