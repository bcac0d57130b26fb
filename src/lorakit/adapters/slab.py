"""Many adapters of one module in one tensor each for A, B, ...: what serves a batch of many.

A slab holds the adapters that have the same shapes: of one variant, rank and site. Others have a
slab of their own beside it, so no rank is padded. A slot is a place in it; capacity doubles, so
adding one costs the same however many there are.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.variants import ModuleAdapter, Site


class Kind(NamedTuple):
    """What adapters of one slab have in common."""

    variant: str
    rank: int
    site: Site | None
    dtype: torch.dtype

    @classmethod
    def of(cls, adapter: ModuleAdapter) -> Kind:
        tensor = next(iter(adapter.tensors.values()))
        return cls(adapter.spec.variant, adapter.spec.r, adapter.site, tensor.dtype)


class Slab:
    """The tensors of adapters of one kind, stacked: name -> (S, *shape), and their scales (S,)."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.scales = torch.empty(0)
        self._free: deque[int] = deque()

    @property
    def nbytes(self) -> int:
        """Of what is allocated, free slots included."""
        return sum(tensor.nbytes for tensor in self.tensors.values())

    def put(self, tensors: Mapping[str, Tensor], scale: float) -> tuple[int, bool]:
        """Copy one adapter into a free slot; returns it, and whether all tensors were moved.

        Called without gradients, and outside of inference mode, whose tensors no one could train
        beside.
        """
        moved = not self._free
        if moved:
            self._grow(tensors)
        slot = self._free.popleft()
        for name, tensor in tensors.items():
            self.tensors[name][slot] = tensor
        self.scales[slot] = scale
        return slot, moved

    def views(self, slot: int) -> dict[str, Tensor]:
        """The tensors of one adapter, in the memory of the slab."""
        return {name: tensor[slot] for name, tensor in self.tensors.items()}

    def free(self, slot: int) -> None:
        """Let another adapter have this slot; it is the last to be taken."""
        self._free.append(slot)

    def apply(self, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast every adapter."""
        self.tensors = {name: fn(tensor) for name, tensor in self.tensors.items()}
        self.scales = self.scales.to(next(iter(self.tensors.values())).device)

    def _grow(self, like: Mapping[str, Tensor]) -> None:
        old = len(self.scales)
        new = 2 * old or 1
        self.tensors = {
            name: self._larger(self.tensors.get(name), new, tensor) for name, tensor in like.items()
        }
        device = next(iter(self.tensors.values())).device
        self.scales = self._larger(self.scales.to(device), new, torch.empty((), device=device))
        self._free.extend(range(old, new))

    @staticmethod
    def _larger(old: Tensor | None, slots: int, like: Tensor) -> Tensor:
        made = torch.empty(slots, *like.shape, dtype=like.dtype, device=like.device)
        if old is not None:
            made[: len(old)] = old
        return made
