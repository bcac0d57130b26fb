"""Checkpoints of a few small tensors, in every layout that transformers reads."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

Layout = Callable[[Path, Mapping[str, Tensor]], None]


def tensors() -> dict[str, Tensor]:
    """One of every kind: narrow, empty, of no dimension, of whole numbers, not contiguous."""
    return {
        "embed.weight": torch.randn(7, 4).to(torch.bfloat16),
        "layer.weight": torch.randn(4, 6).t(),
        "layer.bias": torch.randn(6).half(),
        "count": torch.tensor(3),
        "ids": torch.arange(5).unsqueeze(0),
        "nothing": torch.empty(0, 4),
        "wide": torch.randn(3, dtype=torch.float64),
    }


def halves(values: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    names = list(values)
    middle = len(names) // 2
    return [{n: values[n] for n in part} for part in (names[:middle], names[middle:])]


def index(path: Path, parts: Mapping[str, Mapping[str, Tensor]]) -> None:
    weight_map = {name: file for file, held in parts.items() for name in held}
    path.write_text(json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map}))


def safetensors(directory: Path, values: Mapping[str, Tensor]) -> None:
    whole = {name: tensor.contiguous() for name, tensor in values.items()}
    save_file(whole, directory / "model.safetensors", metadata={"format": "pt"})


def safetensors_shards(directory: Path, values: Mapping[str, Tensor]) -> None:
    parts = {f"model-0000{n}-of-00002.safetensors": p for n, p in enumerate(halves(values), 1)}
    for file, held in parts.items():
        save_file({name: tensor.contiguous() for name, tensor in held.items()}, directory / file)
    index(directory / "model.safetensors.index.json", parts)


def pickle(directory: Path, values: Mapping[str, Tensor]) -> None:
    torch.save(dict(values), directory / "pytorch_model.bin")


def old_pickle(directory: Path, values: Mapping[str, Tensor]) -> None:
    file = directory / "pytorch_model.bin"
    torch.save(dict(values), file, _use_new_zipfile_serialization=False)


def pickle_shards(directory: Path, values: Mapping[str, Tensor]) -> None:
    parts = {f"pytorch_model-0000{n}-of-00002.bin": p for n, p in enumerate(halves(values), 1)}
    for file, held in parts.items():
        torch.save(held, directory / file)
    index(directory / "pytorch_model.bin.index.json", parts)


LAYOUTS: tuple[Layout, ...] = (safetensors, safetensors_shards, pickle, old_pickle, pickle_shards)
