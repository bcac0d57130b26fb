"""The checksum of a safetensors file that lorakit writes: a SHA-256 in the file's own header.

It covers every tensor (name, dtype, shape, bytes) and all other metadata, so a file that changed by
a single bit on a disk or on its way is refused instead of loaded. A file without one is another
tool's, or an earlier lorakit's, and is read as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from lorakit.digests import tensors_digest
from lorakit.errors import FormatError

CHECKSUM = "lorakit_checksum"


def with_checksum(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """The metadata, and the checksum of these contiguous CPU tensors and of the metadata."""
    return {**metadata, CHECKSUM: _digest(metadata, tensors)}


def require_intact(file: Path, metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> None:
    """Raise FormatError if the file has a checksum, and it is another one than its content's."""
    if CHECKSUM in metadata and metadata[CHECKSUM] != _digest(metadata, tensors):
        raise FormatError(
            f"{file} is damaged: its content is not what was saved (the checksum in its header "
            "differs). Copy or download it again."
        )


def _digest(metadata: Mapping[str, str], tensors: Mapping[str, Tensor]) -> str:
    others = sorted((key, text) for key, text in metadata.items() if key != CHECKSUM)
    return tensors_digest(tensors, "".join(f"{key!r} {text!r}\n" for key, text in others))
