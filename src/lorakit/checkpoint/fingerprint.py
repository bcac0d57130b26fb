"""The fingerprint of the base weights that an adapter was trained on: a SHA-256 of samples.

From every weight that counts (LoRA's: those of the adapted modules; another method's: the matrices
it leaves as they are) a few elements are taken at even distances, the first and the last among
them, and hashed together with the names and shapes. Two fine-tunes of one model differ in all of
them. A base that is later loaded in another precision is still the same base, so a float32 base
gets one digest for each type it may be rounded to; rounding commutes with taking
elements, so no tolerance is needed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor

SAMPLES = 64

_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ROUNDED_TO = {torch.float32: (torch.float32, torch.bfloat16, torch.float16)}


def fingerprint(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Digest by dtype name of the given base weights, by name; empty on the meta device."""
    dtype = _common_dtype(weights)
    if dtype is None:
        return {}
    return {_name(kind): _digest(weights, kind) for kind in _ROUNDED_TO.get(dtype, (dtype,))}


def compare(stored: Mapping[str, str] | None, weights: Mapping[str, Tensor]) -> bool | None:
    """Whether `stored` is the fingerprint of these weights; None if they cannot be compared.

    They can if both have the same dtype, or if one is float32 and can be rounded to the other's.
    """
    dtype = _common_dtype(weights)
    if not stored or dtype is None:
        return None
    if _name(dtype) in stored:
        return stored[_name(dtype)] == _digest(weights, dtype)
    for kind in _ROUNDED_TO.get(dtype, ()):
        if _name(kind) in stored:
            return stored[_name(kind)] == _digest(weights, kind)
    return None


def verdict(same: bool | None, adapted: bool) -> str:
    """What `compare` found, in words: about the adapted weights, or those a method left frozen."""
    if same is None:
        return "not verified"
    those = "those that it was trained on"
    found = f"are {those}" if same else f"differ from {those}"
    return f"the {'adapted' if adapted else 'frozen'} weights {found}"


def _common_dtype(weights: Mapping[str, Tensor]) -> torch.dtype | None:
    dtypes = {weight.dtype for weight in weights.values()}
    if len(dtypes) != 1 or any(weight.is_meta for weight in weights.values()):
        return None
    return dtypes.pop()


def _digest(weights: Mapping[str, Tensor], dtype: torch.dtype) -> str:
    digest = hashlib.sha256()
    for name, weight in sorted(weights.items()):
        flat = weight.detach().reshape(-1)
        count = min(SAMPLES, flat.numel())
        places = torch.arange(count, device=flat.device) * (flat.numel() - 1) // max(1, count - 1)
        sample = flat[places].to(dtype).cpu()
        numbers = sample.view(_INTEGER[sample.element_size()]).tolist()
        digest.update(f"{name} {tuple(weight.shape)} {numbers}\n".encode())
    return digest.hexdigest()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
