"""Two checkpoints of one model, tensor by tensor: what differs, and by how much.

A tensor is read in blocks of rows of both, so that only its difference is in memory as a whole.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.base_checkpoints import BaseCheckpoint
from lorakit.checkpoint.fingerprint import Sample, places
from lorakit.errors import FormatError
from lorakit.functional.finite import is_finite

_BLOCK_BYTES = 64 << 20


class Keys(NamedTuple):
    """What one tensor of the model is called in both; None where a checkpoint lacks it."""

    base: str | None
    tuned: str | None


@dataclass(frozen=True)
class CheckpointPair:
    """A base and a model that was tuned from it."""

    base: BaseCheckpoint
    tuned: BaseCheckpoint
    keys: Mapping[str, Keys]
    """By the tensor's name in the model."""

    def are_alike(self, name: str) -> bool:
        """Whether both have the tensor, in the same shape."""
        base, tuned = self.keys[name]
        if base is None or tuned is None:
            return False
        return self.base.tensors[base].shape == self.tuned.tensors[tuned].shape

    def is_changed(self, name: str) -> bool:
        """Whether a tensor that both have alike has other values, and not only rounded ones."""
        return not all(_is_kept(here, there) for here, there, _, _ in self._blocks(name))

    def difference(self, name: str) -> Tensor | None:
        """tuned - base in float32; None where it is at most the rounding to tuned's type.

        Raises FormatError for values that are NaN or infinite.
        """
        found = torch.empty(self.shape(name))
        changed = False
        for here, there, start, stop in self._blocks(name):
            changed |= not _is_kept(here, there)
            found[start:stop] = there.float() - here.float()
        if not changed:
            return None
        if not is_finite(found):
            raise FormatError(f"{name} has NaN or infinite values, or its difference has.")
        return found

    def of_base(self, name: str) -> Tensor:
        """The tensor before tuning."""
        return self.base.read(self._in_base(name))

    def of_tuned(self, name: str) -> Tensor:
        """The tensor after tuning."""
        key = self.keys[name].tuned
        assert key is not None
        return self.tuned.read(key)

    def sample_of_base(self, name: str) -> Sample:
        """What a fingerprint takes of the tensor before tuning."""
        shape = self.shape(name)
        numbers = self.base.read_elements(self._in_base(name), places(math.prod(shape)))
        return Sample(shape, numbers)

    def shape(self, name: str) -> tuple[int, ...]:
        """That of the tensor in the base."""
        return self.base.tensors[self._in_base(name)].shape

    def bytes(self, name: str) -> int:
        """How many of the tuned checkpoint it takes."""
        key = self.keys[name].tuned
        return 0 if key is None else self.tuned.tensors[key].bytes

    def _in_base(self, name: str) -> str:
        key = self.keys[name].base
        assert key is not None
        return key

    def _blocks(self, name: str) -> Iterator[tuple[Tensor, Tensor, int, int]]:
        base, tuned = self.keys[name]
        assert base is not None
        assert tuned is not None
        if not self.base.tensors[base].shape:
            yield self.base.read(base)[None], self.tuned.read(tuned)[None], 0, 1
            return
        for start, stop, rows in self.base.blocks(base, _BLOCK_BYTES):
            yield rows, self.tuned.read_rows(tuned, start, stop), start, stop


def _is_kept(base: Tensor, tuned: Tensor) -> bool:
    """Whether the base's values are the tuned ones, in the type of these.

    Tuned values that would only round to the base's are others: steps of training are that small.
    """
    return torch.equal(base.to(tuned.dtype), tuned)
