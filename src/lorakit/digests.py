"""SHA-256 of values and of tensors, as text that begins with the name of the algorithm."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

SHA256 = "sha256:"
"""How each of these texts begins."""
Buffer = bytes | memoryview


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
    return prepared_digest(tensors, heading)()


def prepared_digest(
    tensors: Mapping[str, Tensor], heading: str = "", content: Mapping[str, Buffer] | None = None
) -> Callable[[], str]:
    """`tensors_digest` as a function that does nothing but hash, so other threads run meanwhile.

    `content` has the bytes of each tensor, where they are at hand; they are copied then, since
    hashing many small ones would ask for the interpreter as often.
    """
    batches = _batches(tensors, content or {})
    if content:
        batches = iter([[b"".join(pieces)] for pieces in batches])

    def digest() -> str:
        state = hashlib.sha256(heading.encode())
        for pieces in batches:
            state.update(pieces[0] if len(pieces) == 1 else b"".join(pieces))
        return SHA256 + state.hexdigest()

    return digest


_AT_ONCE = 2**24
"""Bytes that are hashed by one call."""


def _batches(
    tensors: Mapping[str, Tensor], content: Mapping[str, Buffer]
) -> Iterator[Sequence[Buffer]]:
    """What is hashed, a few tensors or one large one at a time."""
    pieces: list[Buffer] = []
    size = 0
    for name, tensor in sorted(tensors.items()):
        if size > _AT_ONCE:
            yield pieces
            pieces, size = [], 0
        heading = f"{name!r} {tensor.dtype} {tuple(tensor.shape)}\n".encode()
        pieces += [heading, content[name] if name in content else _bytes_of(tensor)]
        size += tensor.nbytes
    yield pieces


def _bytes_of(tensor: Tensor) -> Buffer:
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    found: memoryview = flat.view(torch.uint8).numpy().data
    return found
