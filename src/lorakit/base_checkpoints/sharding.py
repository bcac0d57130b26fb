"""How the tensors of a new checkpoint are cut into files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from lorakit.base_checkpoints.layout import SAFETENSORS
from lorakit.base_checkpoints.reading import BaseCheckpoint
from lorakit.base_checkpoints.stored import StoredTensor

Cut = Mapping[str, Mapping[str, StoredTensor]]
"""The tensors of each file, by the file's name and by theirs."""

_PICKLES = "pytorch_model"


def cut_alike(
    base: BaseCheckpoint, tensors: Mapping[str, StoredTensor], origins: Mapping[str, str]
) -> Cut:
    """The tensors in the files of `base`, each in that of its origin, and in the last without one.

    `origins` are the names there. A file of torch.save becomes one of safetensors.
    """
    if len(base.shards) == 1:
        return {SAFETENSORS: dict(tensors)}
    *_, last = base.shards
    plan: dict[str, dict[str, StoredTensor]] = {_as_safetensors(file): {} for file in base.shards}
    for name, stored in tensors.items():
        file = base.file_of[origins[name]] if name in origins else last
        plan[_as_safetensors(file)][name] = stored
    return {file: held for file, held in plan.items() if held}


def cut_again(tensors: Mapping[str, StoredTensor], limit: int) -> Cut:
    """The tensors in their order in files of at most `limit` bytes, or of one tensor.

    >>> import torch
    >>> row = StoredTensor(torch.float32, (10,))
    >>> [*cut_again({"a": row, "b": row, "c": row}, 80)]
    ['model-00001-of-00002.safetensors', 'model-00002-of-00002.safetensors']
    """
    parts: list[dict[str, StoredTensor]] = [{}]
    filled = 0
    for name, stored in tensors.items():
        if parts[-1] and filled + stored.bytes > limit:
            parts.append({})
            filled = 0
        parts[-1][name] = stored
        filled += stored.bytes
    if len(parts) == 1:
        return {SAFETENSORS: parts[0]}
    return {f"model-{n:05}-of-{len(parts):05}.safetensors": part for n, part in enumerate(parts, 1)}


def _as_safetensors(file: str) -> str:
    stem = Path(file).stem
    if stem.startswith(_PICKLES):
        stem = "model" + stem.removeprefix(_PICKLES)
    return f"{stem}.safetensors"
