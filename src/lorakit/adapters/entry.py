"""What one adapter has at one module."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor

from lorakit.layers.stand_in import Own
from lorakit.variants import ModuleAdapter

_NOTHING: Own = {}


class Entry(NamedTuple):
    """An adapter of a module's weight, and what replaces the module's own parameters."""

    adapter: ModuleAdapter | None
    own: Own = _NOTHING
    trains: bool = False
    """Whether the tensors are Parameters that train; others are for inference."""

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Those of the adapter, and those in place of the module's own, by their names there."""
        if self.adapter is not None:
            yield from self.adapter.tensors.items()
        yield from self.own.items()

    @property
    def tensors(self) -> Iterator[Tensor]:
        """The same without names."""
        return (tensor for _, tensor in self.named_tensors())

    def mapped(self, fn: Callable[[Tensor], Tensor]) -> Entry:
        """The same with other tensors, asked for in the order of `tensors`."""
        adapter = self.adapter
        if adapter is not None:
            values = {name: fn(tensor) for name, tensor in adapter.tensors.items()}
            adapter = ModuleAdapter(adapter.spec, values, adapter.site)
        own = {name: fn(tensor) for name, tensor in self.own.items()} if self.own else self.own
        return Entry(adapter, own, self.trains)


Parts = Mapping[str, Entry]
"""What one adapter has, by module name."""
