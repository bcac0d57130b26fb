"""SHA-256 of values and of tensors, as text that begins with the name of the algorithm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

SHA256 = "sha256:"
"""How each of these texts begins."""


def values_digest(values: Iterable[Any]) -> str:
    """Of what JSON makes of each value, whatever the order of its keys.

    >>> values_digest([{"a": 1, "b": 2}]) == values_digest([{"b": 2, "a": 1}])
    True
    """
    digest = hashlib.sha256()
    for value in values:
        digest.update(json.dumps(value, sort_keys=True, default=str).encode())
    return SHA256 + digest.hexdigest()


def tensors_digest(tensors: Mapping[str, Tensor], heading: str = "") -> str:
    """Of a heading, and of each tensor's name, dtype, shape and bytes, in the order of the names.

    The checksums in files are made of it, so what it hashes has to stay what it is.
    """
    digest = hashlib.sha256(heading.encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        flat = tensor.detach().cpu().contiguous().reshape(-1)
        digest.update(flat.view(torch.uint8).numpy().data)
    return SHA256 + digest.hexdigest()
