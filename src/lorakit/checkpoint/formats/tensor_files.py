"""Tensor files: safetensors, and pickles loaded without running code."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save_file
from torch import Tensor

from lorakit.checkpoint.checksum import require_intact, with_checksum
from lorakit.digests import Buffer
from lorakit.errors import FormatError

_LARGE = 2**26
"""Bytes from which on a file is mapped into memory."""
_SMALL = 2**26
"""Bytes up to which a tensor of a pickle may repeat its numbers."""


def save_safetensors(
    tensors: Mapping[str, Tensor], file: Path, metadata: Mapping[str, str]
) -> None:
    """Write tensors `for_safetensors` with their metadata and a checksum of both.

    The same content is the same bytes.
    """
    save_file(dict(tensors), file, metadata=with_checksum(metadata, tensors))
    _sort_metadata(file)


def _sort_metadata(file: Path) -> None:
    """Put the strings of the header in order; safetensors writes them in a random one."""
    with file.open("r+b") as opened:
        length = int.from_bytes(opened.read(8), "little")
        header = json.loads(opened.read(length))
        header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        if len(text) <= length:  # always, unless safetensors escapes letters otherwise
            opened.seek(8)
            opened.write(text.ljust(length))


def load_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Its tensors and its metadata; raises FormatError if it is corrupted."""
    try:
        read = _read_at_once if file.stat().st_size < _LARGE else _map
        tensors, metadata, content = read(file)
    except (SafetensorError, OSError) as error:
        raise _corrupted(file, error) from error
    require_intact(file, metadata, tensors, content)
    return tensors, metadata


_Content = tuple[dict[str, Tensor], dict[str, str], dict[str, Buffer]]
"""Tensors and metadata, and the bytes of each tensor where they are in memory."""


def _read_at_once(file: Path) -> _Content:
    """By one read, which takes half the time that `safe_open` takes for many tensors."""
    data = file.read_bytes()
    try:
        found = load(data)  # which checks the header
    except KeyError as error:  # of a type in its table, which lacks F8_E8M0 and smaller ones
        raise FormatError(
            f"{file} has tensors of dtype {error.args[0]}, which no adapter has."
        ) from error
    tensors = dict(sorted(found.items()))
    start = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:start])
    metadata = header.pop("__metadata__", None) or {}
    body = memoryview(data)[start:]
    return tensors, metadata, {key: body[slice(*header[key]["data_offsets"])] for key in tensors}


def _map(file: Path) -> _Content:
    with safe_open(file, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
        return tensors, opened.metadata() or {}, {}


def peek_safetensors(file: Path) -> tuple[list[str], dict[str, str]]:
    """The names of its tensors and its metadata, without the tensors."""
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys()), opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _corrupted(file, error) from error


def load_pickle(file: Path, mapped: bool = False) -> Any:
    """The content of a torch.save file; raises FormatError if it is corrupted or could run code.

    Where `mapped`, tensors are read from the file when they are used, without a look at its
    checksums, unless it is of a form from before torch 1.6, which has none.
    """
    try:
        mmap = mapped and zipfile.is_zipfile(file)
        if not mapped and _is_zip(file):
            _require_checksums(file)
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mmap)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(". ")[0]
        raise FormatError(
            f"{file} was not loaded: it contains other objects than tensors, which could run code "
            f"({reason})."
        ) from error
    except FormatError:
        raise
    except Exception as error:  # torch's unpickler and zipfile may raise any for a corrupted file
        raise FormatError(f"{file} is corrupted or not a file of torch.save: {error}") from error


def _is_zip(file: Path) -> bool:
    """Whether torch reads it as a zip."""
    with file.open("rb") as opened:
        return opened.read(len(_ZIP)) == _ZIP


_ZIP, _DIRECTORY = b"PK\x03\x04", 0x10


def _require_checksums(file: Path) -> None:
    """Raise FormatError unless each part has the CRC32 that the zip says, which torch passes over.

    Parts that are larger than the file, compressed or laid over each other, are not read.
    """
    with zipfile.ZipFile(file) as opened:
        parts = opened.infolist()
        is_packed = any(part.compress_type != zipfile.ZIP_STORED for part in parts)
        if is_packed or sum(part.file_size for part in parts) > file.stat().st_size:
            raise FormatError(f"{file} is corrupted or not a file of torch.save: it is compressed.")
        if any(part.external_attr & _DIRECTORY for part in parts):  # of which torch reads nothing
            raise FormatError(f"{file} is corrupted: a part says that it is a directory.")
        if (wrong := opened.testzip()) is not None:
            raise FormatError(
                f"{file} is corrupted: {wrong} does not have the checksum (CRC32) that the file "
                "says. Download or copy it again, or save it again if it was saved without "
                "(torch.serialization.set_crc32_options)."
            )


def plain_tensors(content: Any) -> dict[str, Tensor]:
    """The content of a pickle as tensors by name; FormatError if it holds something else."""
    if (
        not isinstance(content, Mapping)
        or not content
        or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    ):
        raise FormatError("The file does not contain a state dict (tensors by name).")
    if problems := [p for key, tensor in content.items() if (p := _storage_problem(key, tensor))]:
        raise FormatError("The file contains tensors that no adapter has:", problems)
    return dict(content)


def _storage_problem(key: str, tensor: Tensor) -> str | None:
    """Why there is nothing to compute with: no dense numbers, or more than the file has."""
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.is_nested or tensor.is_meta:
        return f"{key} is not a dense tensor of numbers"
    if tensor.numel() * tensor.element_size() > max(tensor.untyped_storage().nbytes(), _SMALL):
        return f"{key} has {tensor.numel():,} values, and the file stores fewer"
    return None


def for_safetensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous CPU tensors, of which no two share memory, as safetensors requires."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        copy = tensor.detach().cpu().contiguous()
        if copy.untyped_storage().data_ptr() in seen:
            copy = copy.clone()
        seen.add(copy.untyped_storage().data_ptr())
        result[key] = copy
    return result


def dtype_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """The dtypes of these tensors, as a header names them."""
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})


def _corrupted(file: Path, error: Exception) -> FormatError:
    return FormatError(f"{file} is corrupted or not a safetensors file: {error}")
