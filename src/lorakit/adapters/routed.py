"""Modules that run the adapter which their set chooses, here and now.

A mixin in front of the module's class. The module keeps its parameters and names and has no state
of an adapter: each forward asks its place for a plan, and without one computes as the base does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn

from lorakit.adapters.place import Place
from lorakit.errors import StateError
from lorakit.layers.base import AdapterLayer
from lorakit.surgery.disabling import here, is_disabled

if TYPE_CHECKING:
    from typing import Self

ATTRIBUTE = "_lorakit_place"


class Routed(nn.Module):
    """A module of which a set has tensors, such as a head, or an adapter of its weight."""

    _lorakit_place: Place

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        plan = self._lorakit_place.plan()
        if plan is None or (here.disabled and is_disabled(self)):
            return self.base_forward(*args, **kwargs)
        return plan(*args, **kwargs)

    def base_forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the module computes without an adapter."""
        return super().forward(*args, **kwargs)

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
        if plan is None or (here.disabled and is_disabled(self)):
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
