"""Adapters on disk with random values, and what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

import lorakit
from lorakit import LoraConfig
from lorakit.injection import trained_copies

Build = Callable[[], nn.Module]


def randomise(model: nn.Module, seed: int) -> None:
    """Give everything that trains values of its own."""
    torch.manual_seed(seed)
    trained = set(trained_copies.names(model))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                spread = 0.1 if name in trained else 0.3
                parameter.add_(torch.randn_like(parameter), alpha=spread)


def save(build: Build, path: Path, seed: int = 0, **config: Any) -> Path:
    """An adapter of this base with random values, as files."""
    model = build()
    lorakit.inject(model, LoraConfig(**config))
    randomise(model, seed)
    return lorakit.save_adapter(model, path)


def save_all(
    build: Build, directory: Path, configs: Mapping[str, Mapping[str, Any]]
) -> dict[str, Path]:
    """One adapter for each config, by its name."""
    return {
        name: save(build, directory / name, seed, **config)
        for seed, (name, config) in enumerate(configs.items())
    }


def rewrite(path: Path, dtype: torch.dtype) -> Path:
    """The same adapter in another type, as another tool would write it."""
    file = path / "adapter_model.safetensors"
    with safe_open(file, framework="pt") as opened:
        tensors = {key: opened.get_tensor(key).to(dtype) for key in opened.keys()}  # noqa: SIM118
        metadata = {k: v for k, v in opened.metadata().items() if k != "lorakit_checksum"}
    save_file(tensors, file, metadata)
    return path


def loaded_set(model: nn.Module, paths: Mapping[str, Path]) -> lorakit.AdapterSet:
    """A set of the model with these adapters."""
    adapters = lorakit.AdapterSet(model)
    for name, path in paths.items():
        adapters.load(name, path)
    return adapters


def alone(build: Build, path: Path | None) -> nn.Module:
    """The base with this adapter and no other, as `load_adapter` makes it."""
    model = build()
    if path is not None:
        lorakit.load_adapter(model, path)
    return model.eval()


def output(model: nn.Module, **batch: Tensor) -> Tensor:
    """The first tensor that the model gives."""
    with torch.no_grad():
        result = model(**batch)
    found = result if isinstance(result, Tensor) else result[0]
    assert isinstance(found, Tensor)
    return found


def row_by_row(
    build: Build, paths: Mapping[str, Path], names: list[str | None], **batch: Tensor
) -> Tensor:
    """What each row gives with its adapter alone."""
    rows = []
    for n, name in enumerate(names):
        model = alone(build, None if name is None else paths[name])
        rows.append(output(model, **{key: value[n : n + 1] for key, value in batch.items()}))
    return torch.cat(rows)
