"""Copies of an adapter's files in which the base has another name; everything else is the same."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lorakit.checkpoint.formats.peft.layout import CONFIG_NAME
from lorakit.checkpoint.formats.tensor_files import load_safetensors, save_safetensors
from lorakit.checkpoint.header import header_text, parse_table
from lorakit.foreign_files import read_json

_FIELDS = ("base_model", "base_model_name_or_path")
"""Where a header and PEFT's config have it."""


def copy_with_base(directory: Path, target: Path, base: str | None) -> None:
    """Copy the adapter of a directory that lorakit has written; None: without the base's name.

    Raises FormatError for damaged files.
    """
    for file in directory.glob("*.safetensors"):
        tensors, metadata = load_safetensors(file)
        header = _renamed(parse_table(metadata) or {}, base)
        save_safetensors(tensors, target / file.name, header_text(header))
    if (directory / CONFIG_NAME).is_file():
        config = _renamed(read_json(directory / CONFIG_NAME), base)
        text = json.dumps(config, indent=2, sort_keys=True)
        (target / CONFIG_NAME).write_text(text, encoding="utf-8")


def _renamed(content: Mapping[str, Any], base: str | None) -> dict[str, Any]:
    renamed = {name: base if name in _FIELDS else value for name, value in content.items()}
    if isinstance(config := content.get("config"), Mapping):
        renamed["config"] = _renamed(config, base)
    return renamed
