"""A checkpoint, written: each shard's header first, then its tensors block by block.

A safetensors header has the place of every tensor, which follows from dtypes and shapes alone, so
nothing has to be in memory but the block that is being written.

Source: https://github.com/huggingface/safetensors#format
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

from lorakit.base_checkpoints.layout import SAFETENSORS, SAFETENSORS_INDEX
from lorakit.base_checkpoints.progress import Progress
from lorakit.base_checkpoints.shard_files import LENGTH
from lorakit.base_checkpoints.sharding import Cut
from lorakit.base_checkpoints.stored import NAMES, StoredTensor
from lorakit.errors import SaveError

Blocks = Callable[[str], Iterable[Tensor]]
"""From the name of a tensor to its rows, in one block or several."""

_ALIGNMENT = 8


def write_checkpoint(
    directory: Path, cut: Cut, blocks: Blocks, progress: Progress | None = None
) -> int:
    """Write the files of `cut`, and their index if they are several; returns the bytes.

    The directory is there; give it one of `lorakit.locks.new_directory`, which flushes it and puts
    it into place. Raises SaveError if the disk has not the room, or is full.
    """
    require_room(directory, sum(map(_file_size, cut.values())))
    try:
        for file, tensors in cut.items():
            _write_shard(directory / file, tensors, blocks, progress)
        if [*cut] != [SAFETENSORS]:
            _write_index(directory / SAFETENSORS_INDEX, cut)
    except OSError as error:
        raise SaveError(f"{directory} could not be written: {error}") from error
    return sum((directory / file).stat().st_size for file in cut)


def require_room(directory: Path, size: int) -> None:
    """Raise SaveError if the file system of this directory has fewer free bytes."""
    free = shutil.disk_usage(directory).free
    if size > free:
        raise SaveError(
            f"{size / 1e9:,.2f} GB are to be written, and the file system of {directory} has "
            f"{free / 1e9:,.2f} GB free; make room or choose another place."
        )


def _write_shard(
    path: Path, tensors: Mapping[str, StoredTensor], blocks: Blocks, progress: Progress | None
) -> None:
    header = _header(tensors)
    with path.open("wb") as file:
        file.write(LENGTH.pack(len(header)) + header)
        for name in _in_order(tensors):
            written = 0
            for block in blocks(name):
                assert block.dtype == tensors[name].dtype, name
                written += file.write(_raw(block))
                if progress is not None:
                    progress(block.nbytes)
            assert written == tensors[name].bytes, name


def _raw(block: Tensor) -> memoryview:
    flat = block.detach().contiguous().reshape(-1)
    return memoryview(flat.view(torch.uint8).numpy().data)


def _in_order(tensors: Mapping[str, StoredTensor]) -> list[str]:
    """The widest types first, so that each tensor begins at a multiple of its own width."""
    return sorted(tensors, key=lambda name: (-tensors[name].dtype.itemsize, name))


def _header(tensors: Mapping[str, StoredTensor]) -> bytes:
    table: dict[str, object] = {"__metadata__": {"format": "pt"}}
    begin = 0
    for name in _in_order(tensors):
        stored = tensors[name]
        table[name] = {
            "dtype": NAMES[stored.dtype],
            "shape": list(stored.shape),
            "data_offsets": [begin, begin := begin + stored.bytes],
        }
    text = json.dumps(table, separators=(",", ":")).encode()
    return text + b" " * (-len(text) % _ALIGNMENT)


def _file_size(tensors: Mapping[str, StoredTensor]) -> int:
    stored = sum(tensor.bytes for tensor in tensors.values())
    return LENGTH.size + len(_header(tensors)) + stored


def _write_index(path: Path, cut: Cut) -> None:
    tensors = [stored for held in cut.values() for stored in held.values()]
    index = {
        "metadata": {"total_size": sum(stored.bytes for stored in tensors)},
        "weight_map": {name: file for file, held in sorted(cut.items()) for name in sorted(held)},
    }
    path.write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", encoding="utf-8")
