"""What a merged weight was made from, and whether that is still as it was."""

from __future__ import annotations

from operator import is_
from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.private.torch_names import is_fake, version_of


class Origin(NamedTuple):
    """What a merged weight was made from."""

    sources: tuple[Tensor, ...]
    pointers: list[int]
    versions: list[int]
    scaling: float
    storages: tuple[torch.UntypedStorage, ...]
    """Held, since an address that became free could be the next tensor's."""

    @classmethod
    def of(cls, sources: tuple[Tensor, ...], scaling: float) -> Origin:
        storages = tuple(source.untyped_storage() for source in sources)
        pointers, versions = list(map(_pointer, sources)), list(map(version_of, sources))
        return cls(sources, pointers, versions, scaling, storages)

    def is_still(self, sources: tuple[Tensor, ...], scaling: float) -> bool:
        """Tensors by identity, their addresses, versions and the scale by value."""
        return (
            all(map(is_, sources, self.sources))
            and scaling == self.scaling
            and list(map(version_of, sources)) == self.versions
            and list(map(_pointer, sources)) == self.pointers
        )


_pointer = Tensor.data_ptr


def can_be_watched(tensor: Tensor) -> bool:
    """Whether address and version tell that it changed.

    Inference tensors count no versions; the fake tensors of tracing have no address.
    """
    return not tensor.is_inference() and not is_fake(tensor)
