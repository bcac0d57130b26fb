"""What is known of a tensor in a file without its values, and safetensors' names of dtypes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

CODES = {
    "BOOL": torch.bool,
    "U8": torch.uint8,
    "I8": torch.int8,
    "I16": torch.int16,
    "U16": torch.uint16,
    "I32": torch.int32,
    "U32": torch.uint32,
    "I64": torch.int64,
    "U64": torch.uint64,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E4M3FNUZ": torch.float8_e4m3fnuz,
    "F8_E5M2": torch.float8_e5m2,
    "F8_E5M2FNUZ": torch.float8_e5m2fnuz,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F32": torch.float32,
    "F64": torch.float64,
    "C64": torch.complex64,
}
"""Those whose values have a whole number of bytes and that torch has.

Source: https://github.com/huggingface/safetensors (the enum `Dtype`).
"""
NAMES = {dtype: code for code, dtype in CODES.items()}


@dataclass(frozen=True)
class StoredTensor:
    """Dtype and shape of a tensor in a file.

    >>> StoredTensor(torch.bfloat16, (2, 3)).bytes
    12
    """

    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def size(self) -> int:
        """How many numbers it has."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """How many it takes in the file."""
        return self.size * self.dtype.itemsize

    @classmethod
    def of(cls, tensor: Tensor) -> StoredTensor:
        """What a file would store of this tensor."""
        return cls(tensor.dtype, tuple(tensor.shape))
