"""Files of tensors: safetensors, and pickles from which no code runs."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from lorakit.errors import FormatError


def load_safetensors(file: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Its tensors and its metadata; raises FormatError if it is damaged."""
    try:
        with safe_open(file, framework="pt") as opened:
            tensors = {key: opened.get_tensor(key) for key in opened.keys()}  # noqa: SIM118
            return tensors, opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def peek_safetensors(file: Path) -> tuple[list[str], dict[str, str]]:
    """The names of its tensors and its metadata, without the tensors."""
    try:
        with safe_open(file, framework="pt") as opened:
            return list(opened.keys()), opened.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise _damaged(file, error) from error


def load_pickle(file: Path) -> Any:
    """What torch.save wrote; raises FormatError for a damaged file, and if code would run."""
    try:
        return torch.load(file, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).rpartition("WeightsUnpickler error: ")[2].partition(". ")[0]
        raise FormatError(
            f"{file} was not loaded: it contains other objects than tensors, which could run code "
            f"({reason})."
        ) from error
    except Exception as error:  # torch's unpickler raises whatever a damaged file leads to
        raise FormatError(f"{file} is corrupted or not a file of torch.save: {error}") from error


def on_their_own(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Contiguous on the CPU, each in memory of its own, as safetensors wants tied ones too."""
    seen: set[int] = set()
    result = {}
    for key, tensor in tensors.items():
        alone = tensor.detach().cpu().contiguous()
        if alone.untyped_storage().data_ptr() in seen:
            alone = alone.clone()
        seen.add(alone.untyped_storage().data_ptr())
        result[key] = alone
    return result


def dtype_names(tensors: Mapping[str, Tensor]) -> list[str]:
    """The types of these tensors, as a header names them."""
    return sorted({str(tensor.dtype).removeprefix("torch.") for tensor in tensors.values()})


def _damaged(file: Path, error: Exception) -> FormatError:
    return FormatError(f"{file} is corrupted or not a safetensors file: {error}")
