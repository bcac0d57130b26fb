"""How a directory of mlx-lm's is recognised: its config has the name of PEFT's."""

from __future__ import annotations

from pathlib import Path

CONFIG_NAME = "adapter_config.json"
TENSORS_NAME = "adapters.safetensors"


def is_of_mlx(path: Path) -> bool:
    """Whether this is a directory with mlx-lm's tensors, or these."""
    directory = path if path.is_dir() else path.parent
    is_there = (directory / TENSORS_NAME).is_file() and (directory / CONFIG_NAME).is_file()
    return is_there and (path.is_dir() or path.name == TENSORS_NAME)
