"""All tensors of one adapter in one piece of memory, of each type and for each device.

So one is loaded, moved and let go of as a whole, and what it takes is given back when the last
forward that computes with it has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import NamedTuple

import torch
from torch import Tensor

from lorakit.adapters.entry import Entry, Parts
from lorakit.layers.cuda_streams import Computed, let_use


class Kind(NamedTuple):
    """What tensors in one piece have in common."""

    dtype: torch.dtype
    device: torch.device
    """That of the modules beside which they stand."""


DeviceOf = Callable[[str], torch.device]
"""Where the module of this name is now."""
Devices = Mapping[str, torch.device]
_NOWHERE: Devices = {}

_numbers = count()


class Slab:
    """What one adapter has at each module, as views of a few pieces of memory.

    An adapter that trains has Parameters instead, and no pieces.
    """

    def __init__(
        self,
        entries: Parts,
        kinds: Sequence[Kind] = (),
        devices: Devices = _NOWHERE,
        pieces: Mapping[Kind, Tensor] | None = None,
    ) -> None:
        self.entries: dict[str, Entry] = dict(entries)
        self.number = next(_numbers)
        """That of no other, at any time."""
        self._kinds = kinds
        """Of each tensor, in the order of the entries."""
        self._devices = devices
        """Where each module is for which the pieces were made."""
        self._pieces = pieces
        """None where the tensors are apart."""
        self._computed: dict[Kind, Computed | None] = {}

    @classmethod
    def packed(cls, parts: Parts, device_of: DeviceOf) -> Slab:
        """A copy of these tensors, in pieces on the device where they are, for those modules."""
        devices, groups = {name: device_of(name) for name in parts}, dict[Kind, list[Tensor]]()
        kinds = [Kind(x.dtype, devices[name]) for name, e in parts.items() for x in e.tensors]
        tensors = [tensor for entry in parts.values() for tensor in entry.tensors]
        for kind, tensor in zip(kinds, tensors, strict=True):
            groups.setdefault(kind, []).append(tensor.reshape(-1))
        pieces = {kind: _joined(group, kind.device) for kind, group in groups.items()}
        return cls(parts, kinds, devices)._cut(pieces)

    def _cut(self, pieces: Mapping[Kind, Tensor]) -> Slab:
        """Views of the pieces, in the order and the shapes of its tensors."""
        following, sizes = iter(self._kinds), dict[Kind, list[int]]()
        tensors = [tensor for entry in self.entries.values() for tensor in entry.tensors]
        for kind, tensor in zip(self._kinds, tensors, strict=True):
            sizes.setdefault(kind, []).append(tensor.numel())
        cut = {kind: iter(piece.split(sizes[kind])) for kind, piece in pieces.items()}

        def view(tensor: Tensor) -> Tensor:
            piece: Tensor = next(cut[next(following)])
            return piece.view(tensor.shape)

        entries = {name: entry.mapped(view) for name, entry in self.entries.items()}
        return Slab(entries, self._kinds, self._devices, pieces)

    @property
    def nbytes(self) -> int:
        """Of the memory that it holds."""
        if self._pieces is not None:
            return sum(piece.nbytes for piece in self._pieces.values())
        return sum(tensor.nbytes for entry in self.entries.values() for tensor in entry.tensors)

    def beside(self, device_of: DeviceOf) -> Slab:
        """The same on the devices of the modules; on CUDA on its way there, see `let_use`."""
        has_moved = any(device_of(name) != device for name, device in self._devices.items())
        if self._pieces is None or has_moved:
            return self.packed(self.entries, device_of).beside(device_of)
        if all(piece.device == kind.device for kind, piece in self._pieces.items()):
            return self
        pieces, computed = {}, {}
        for kind, piece in self._pieces.items():
            pieces[kind], computed[kind] = _brought(piece, kind.device)
        made = self._cut(pieces)
        made._computed = computed
        return made

    def on_host(self) -> Slab:
        """The same in host memory."""
        self.let_use()
        whole = self if self._pieces is not None else self.packed(self.entries, self._device_of)
        pieces = {kind: _on_host(piece) for kind, piece in (whole._pieces or {}).items()}
        return whole._cut(pieces)

    def let_use(self) -> None:
        """Let the current CUDA streams compute with it, once it has arrived."""
        for kind, computed in self._computed.items():
            if computed is not None and self._pieces is not None:
                let_use(self._pieces[kind], computed)

    def _device_of(self, module: str) -> torch.device:
        return next(self.entries[module].tensors).device

    def apply(self, module: str, fn: Callable[[Tensor], Tensor]) -> None:
        """Move or cast what stands beside this module, as the module's own tensors are.

        What trains stays the same Parameters, of their type.
        """
        entry = self.entries.get(module)
        if entry is None:
            return
        if entry.trains:
            for tensor in entry.tensors:
                _move(tensor, fn)
            return
        self.let_use()
        self.entries[module] = entry.mapped(fn)
        self._pieces, self._computed = None, {}


def _move(parameter: Tensor, fn: Callable[[Tensor], Tensor]) -> None:
    """Let it and its gradient be where this puts them, as `nn.Module.to` does."""
    for tensor in (parameter, parameter.grad):
        if tensor is not None:
            data = fn(tensor.data)
            tensor.data = data if data.dtype == tensor.dtype else tensor.data.to(data.device)


_streams: dict[torch.device, torch.cuda.Stream] = {}
"""One of each CUDA device, on which adapters arrive."""


def _joined(tensors: list[Tensor], device: torch.device) -> Tensor:
    """These in a row; in pinned memory where they are to go from the host to CUDA."""
    pinned = device.type == "cuda" and tensors[0].device.type == "cpu"
    size = sum(map(Tensor.numel, tensors))
    made = torch.empty(size, dtype=tensors[0].dtype, device=tensors[0].device, pin_memory=pinned)
    return torch.cat(tensors, out=made)


def _brought(piece: Tensor, device: torch.device) -> tuple[Tensor, Computed | None]:
    """A piece on this device, and what computes it there, if that takes its time."""
    if device.type != "cuda" or piece.device == device:
        return piece.to(device), None
    stream = _streams.get(device)
    if stream is None:
        stream = _streams[device] = torch.cuda.Stream(device)
    with torch.cuda.stream(stream):
        made = piece.to(device, non_blocking=True)
        return made, Computed.now(made)


def _on_host(piece: Tensor) -> Tensor:
    if not piece.is_cuda:
        return piece.cpu()
    return torch.empty_like(piece, device="cpu", pin_memory=True).copy_(piece)
