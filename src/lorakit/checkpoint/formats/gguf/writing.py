"""A GGUF file from metadata and tensors, by the `gguf` package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorakit.files import atomic_write, directory_for_writing


def write_gguf(
    file: Path,
    architecture: str,
    values: Mapping[str, str | float],
    tensors: Mapping[str, Tensor],
) -> None:
    """Write the file atomically; `tensors` are float32 or float16, on the CPU."""
    import gguf

    with directory_for_writing(file.parent), atomic_write(file) as temporary:
        writer = gguf.GGUFWriter(temporary, architecture)
        for key, value in values.items():
            if isinstance(value, str):
                writer.add_string(key, value)
            else:
                writer.add_float32(key, value)
        for name, tensor in tensors.items():
            assert tensor.dtype in (torch.float32, torch.float16)
            writer.add_tensor(name, tensor.numpy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
