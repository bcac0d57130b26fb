"""A GGUF file as metadata and tensors, in time and memory bounded by its size.

    "GGUF", version, number of tensors, number of values
    values    key, type, value
    tensors   name, number of sizes, sizes (the innermost first), type, offset
    data      from the next multiple of the alignment on

All numbers are little-endian; a text is its length and its bytes.
Source: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import math
import os
import struct
from collections.abc import Callable
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lorakit.errors import FormatError
from lorakit.foreign_files import open_file

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_SCALARS = {
    0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d",
}  # fmt: skip
_TEXT, _ARRAY = 8, 9
_DEEPEST = 4
_DTYPES = {0: torch.float32, 1: torch.float16, 28: torch.float64, 30: torch.bfloat16}
_MOST_SIZES = 4


class _Damaged(ValueError):
    """What of the file cannot be."""


def read_gguf(
    file: Path, require: Callable[[dict[str, Any]], None] = lambda metadata: None
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Its metadata and its tensors; of an array in the metadata only the length is kept.

    `require` raises for metadata whose tensors are not wanted, before one of them is in memory.
    Raises FormatError if the file is damaged, or its numbers are packed.
    """
    try:
        with open_file(file) as opened:
            if not os.fstat(opened.fileno()).st_size:
                raise _Damaged("it is empty")
            with mmap(opened.fileno(), 0, access=ACCESS_READ) as content:
                reader = _Reader(content)
                metadata, infos = reader.header()
                require(metadata)
                return metadata, reader.tensors(metadata, infos)
    except (_Damaged, OSError, struct.error, UnicodeDecodeError) as error:
        raise FormatError(f"{file} is corrupted or not a GGUF file: {error}") from error


class _Reader:
    """Reads the bytes of a file from their beginning."""

    def __init__(self, content: mmap) -> None:
        self.content = content
        self.at = 0

    def header(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """The metadata, and the shape, type and offset of each tensor."""
        if self._bytes(4) != MAGIC:
            raise _Damaged("it does not begin with GGUF")
        version, tensors, values = self._numbers("IQQ")
        if version not in _VERSIONS:
            raise _Damaged(f"its version is {version}, not 2 or 3")
        metadata = self._unique((self._text(), self._value()) for _ in self._counted(values))
        return metadata, self._unique((self._text(), self._info()) for _ in self._counted(tensors))

    def tensors(self, metadata: dict[str, Any], infos: dict[str, Any]) -> dict[str, Tensor]:
        """Those of the header, which ends here."""
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment < 1:
            raise _Damaged(f"its alignment is {alignment!r}")
        start = -(-self.at // alignment) * alignment
        return {name: self._tensor(name, start, *info) for name, info in infos.items()}

    def _unique(self, pairs: Any) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for name, value in pairs:
            if name in found:
                raise _Damaged(f"{name} is there twice")
            found[name] = value
        return found

    def _counted(self, count: int) -> range:
        """So many rounds; each takes a byte of the file at least."""
        if count > len(self.content) - self.at:
            raise _Damaged(f"it says {count:,} entries and has {len(self.content):,} bytes")
        return range(count)

    def _value(self, depth: int = 0, kind: int | None = None) -> Any:
        kind = self._numbers("I")[0] if kind is None else kind
        if kind in _SCALARS:
            return self._numbers(_SCALARS[kind])[0]
        if kind == _TEXT:
            return self._text()
        if kind != _ARRAY or depth == _DEEPEST:
            raise _Damaged(f"a value has the type {kind}")
        inner, count = self._numbers("IQ")
        if inner in _SCALARS:
            self._bytes(count * struct.calcsize(f"<{_SCALARS[inner]}"))
        else:
            for _ in self._counted(count):
                self._value(depth + 1, inner)
        return count

    def _info(self) -> tuple[tuple[int, ...], int, int]:
        (count,) = self._numbers("I")
        if count > _MOST_SIZES:
            raise _Damaged(f"a tensor has {count} sizes")
        shape = self._numbers("Q" * count)[::-1]
        kind, offset = self._numbers("IQ")
        return shape, kind, offset

    def _tensor(
        self, name: str, start: int, shape: tuple[int, ...], kind: int, offset: int
    ) -> Tensor:
        if kind not in _DTYPES:
            raise _Damaged(f"{name} has packed numbers (type {kind}), which no adapter needs")
        dtype, count = _DTYPES[kind], math.prod(shape)
        begin, size = start + offset, count * _DTYPES[kind].itemsize
        if begin + size > len(self.content):
            raise _Damaged(f"{name} ends after the file")
        if count == 0:
            raise _Damaged(f"{name} has no numbers")
        data = bytearray(self.content[begin : begin + size])
        return torch.frombuffer(data, dtype=dtype).reshape(shape)

    def _text(self) -> str:
        return self._bytes(self._numbers("Q")[0]).decode()

    def _numbers(self, kinds: str) -> tuple[Any, ...]:
        return struct.unpack(f"<{kinds}", self._bytes(struct.calcsize(f"<{kinds}")))

    def _bytes(self, count: int) -> bytes:
        if count > len(self.content) - self.at:
            raise _Damaged("it ends too early")
        self.at += count
        return self.content[self.at - count : self.at]
