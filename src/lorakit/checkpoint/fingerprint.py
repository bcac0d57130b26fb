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
from dataclasses import dataclass

import torch
from torch import Tensor

SAMPLES = 64

_INTEGER = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_ROUNDED_TO = {torch.float32: (torch.float32, torch.bfloat16, torch.float16)}


@dataclass(frozen=True)
class Sample:
    """What is taken of a weight."""

    shape: tuple[int, ...]
    values: Tensor
    """At the `places` of the flat weight."""


def places(size: int) -> list[int]:
    """Where the elements of a weight of `size` numbers are taken.

    >>> places(3), len(places(1000)), places(1000)[-1]
    ([0, 1, 2], 64, 999)
    """
    count = min(SAMPLES, size)
    return [place * (size - 1) // max(1, count - 1) for place in range(count)]


def sample(weight: Tensor) -> Sample:
    """What is taken of a weight in memory."""
    flat = weight.detach().reshape(-1)
    taken = flat[torch.tensor(places(flat.numel()), dtype=torch.long, device=flat.device)]
    return Sample(tuple(weight.shape), taken)


def fingerprint(weights: Mapping[str, Tensor]) -> dict[str, str]:
    """Digest by dtype name of the given base weights, by name; empty on the meta device."""
    if _common_dtype(weights) is None:
        return {}
    return fingerprint_of({name: sample(weight) for name, weight in weights.items()})


def fingerprint_of(samples: Mapping[str, Sample]) -> dict[str, str]:
    """`fingerprint` from what was taken of each weight, by name; empty if their dtypes differ."""
    dtype = _dtype_of(samples)
    if dtype is None:
        return {}
    return {_name(kind): _digest(samples, kind) for kind in _ROUNDED_TO.get(dtype, (dtype,))}


def compare(stored: Mapping[str, str] | None, weights: Mapping[str, Tensor]) -> bool | None:
    """Whether `stored` is the fingerprint of these weights; None if they cannot be compared.

    They can if both have the same dtype, or if one is float32 and can be rounded to the other's.
    """
    dtype = _common_dtype(weights)
    if not stored or dtype is None:
        return None
    return compare_samples(stored, {name: sample(weight) for name, weight in weights.items()})


def compare_samples(stored: Mapping[str, str], samples: Mapping[str, Sample]) -> bool | None:
    """`compare` with what was taken of each weight, by name."""
    dtype = _dtype_of(samples)
    if dtype is None:
        return None
    for kind in (dtype, *_ROUNDED_TO.get(dtype, ())):
        if _name(kind) in stored:
            return stored[_name(kind)] == _digest(samples, kind)
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


def _dtype_of(samples: Mapping[str, Sample]) -> torch.dtype | None:
    dtypes = {taken.values.dtype for taken in samples.values()}
    return dtypes.pop() if len(dtypes) == 1 else None


def _digest(samples: Mapping[str, Sample], dtype: torch.dtype) -> str:
    digest = hashlib.sha256()
    for name, taken in sorted(samples.items()):
        values = taken.values.to(dtype).cpu()
        numbers = values.view(_INTEGER[values.element_size()]).tolist()
        digest.update(f"{name} {taken.shape} {numbers}\n".encode())
    return digest.hexdigest()


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
