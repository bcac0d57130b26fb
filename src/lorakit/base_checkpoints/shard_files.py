"""One file of a checkpoint: what stands in it, and its tensors, or some of their rows, one by one.

A safetensors file is read with plain reads at the places that its header names, as every page of a
memory map that was ever looked at stays in memory. A file of torch.save is mapped, and mapped anew
when some of it was looked at; of one from before torch 1.6, which cannot be mapped, all tensors are
in memory while it is read.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol
from zipfile import is_zipfile

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorakit.base_checkpoints.stored import CODES, StoredTensor
from lorakit.checkpoint.formats.tensor_files import load_pickle, plain_tensors
from lorakit.errors import FormatError
from lorakit.foreign_files import open_file

LENGTH = struct.Struct("<Q")
"""The first bytes of a safetensors file: the length of the header."""
_LOOKED_AT = 16 << 20
"""Bytes of a mapped file after which it is mapped anew."""


class ShardFile(Protocol):
    """A file with tensors."""

    @property
    def tensors(self) -> Mapping[str, StoredTensor]:
        """What stands in it, in its order."""

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        """Rows of a tensor of at least one dimension, as a new tensor."""

    def whole(self, name: str) -> Tensor:
        """A tensor, as a new one."""

    def elements(self, name: str, places: Sequence[int]) -> Tensor:
        """Its values at these places of the flat tensor."""

    def release(self) -> None:
        """Let go of what is kept for the next tensor."""


class SafetensorsFile:
    """A safetensors file; raises FormatError if it is damaged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        header = _header(path)
        self._begin = {name: entry["data_offsets"][0] for name, entry in header.items()}
        self.tensors = {name: _stored(path, name, header[name]) for name in self._in_order()}

    def _in_order(self) -> list[str]:
        return sorted(self._begin, key=lambda name: (self._begin[name], name))

    def whole(self, name: str) -> Tensor:
        stored = self.tensors[name]
        return self._read(name, 0, stored.bytes, stored.shape)

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        height, *rest = self.tensors[name].shape
        row = self.tensors[name].bytes // max(1, height)
        return self._read(name, start * row, (stop - start) * row, (stop - start, *rest))

    def elements(self, name: str, places: Sequence[int]) -> Tensor:
        width = self.tensors[name].dtype.itemsize
        read = [self._read(name, place * width, width, (1,)) for place in places]
        return torch.cat(read) if read else torch.empty(0, dtype=self.tensors[name].dtype)

    def release(self) -> None:
        pass

    def _read(self, name: str, offset: int, count: int, shape: tuple[int, ...]) -> Tensor:
        stored = self.tensors[name]
        flat = torch.empty(count, dtype=torch.uint8)
        try:
            with open_file(self._path) as file:
                length = LENGTH.unpack(file.read(LENGTH.size))[0]
                file.seek(LENGTH.size + length + self._begin[name] + offset)
                found = file.readinto(flat.numpy().data) if count else 0  # type: ignore[attr-defined]
        except OSError as error:
            raise FormatError(f"{self._path} cannot be read: {error}") from error
        if found != count:
            raise FormatError(f"{self._path} ends within {name}; download or copy it again.")
        return flat.view(stored.dtype).reshape(shape)


class PickleFile:
    """A file of torch.save with tensors by name; raises FormatError if it holds anything else."""

    def __init__(self, path: Path) -> None:
        self._path, self._mapped = path, is_zipfile(path)
        self._loaded: dict[str, Tensor] | None = None
        self._looked_at = 0
        self.tensors = {name: StoredTensor.of(tensor) for name, tensor in self._values().items()}
        self.release()

    def whole(self, name: str) -> Tensor:
        return self._copy(self._values()[name])

    def rows(self, name: str, start: int, stop: int) -> Tensor:
        return self._copy(self._values()[name][start:stop])

    def elements(self, name: str, places: Sequence[int]) -> Tensor:
        return self._values()[name].detach().reshape(-1)[list(places)]

    def release(self) -> None:
        self._loaded = None

    def _copy(self, tensor: Tensor) -> Tensor:
        copy = tensor.detach().clone(memory_format=torch.contiguous_format)
        self._looked_at += copy.nbytes
        if self._mapped and self._looked_at > _LOOKED_AT:
            self.release()
        return copy

    def _values(self) -> dict[str, Tensor]:
        if self._loaded is None:
            self._looked_at = 0
            try:
                self._loaded = plain_tensors(load_pickle(self._path, mapped=True))
            except FormatError as error:
                headline = f"{self._path} cannot be read. {error.headline}"
                raise FormatError(headline, error.problems) from error
        return self._loaded


def _header(path: Path) -> dict[str, Any]:
    """Its entries by name, whose places safetensors itself has checked."""
    try:
        with safe_open(path, framework="pt"):
            pass
        with open_file(path) as file:
            length = LENGTH.unpack(file.read(LENGTH.size))[0]
            header: dict[str, Any] = json.loads(file.read(length))
    except (SafetensorError, OSError) as error:
        raise FormatError(
            f"{path} is damaged or not a safetensors file: {error}; download or copy it again."
        ) from error
    header.pop("__metadata__", None)
    return header


def _stored(path: Path, name: str, entry: Mapping[str, Any]) -> StoredTensor:
    if entry["dtype"] not in CODES:
        raise FormatError(
            f"{path}: {name} has dtype {entry['dtype']}; supported are {', '.join(CODES)}."
        )
    return StoredTensor(CODES[entry["dtype"]], tuple(entry["shape"]))
