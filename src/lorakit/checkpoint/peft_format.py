"""PEFT's directory: adapter_config.json and adapter_model.safetensors.

Tensor names are `base_model.model.` + module + suffix:

    linear, attention   .lora_A.weight (R, I)             .lora_B.weight (O, R)
    linear with DoRA    the same, and .lora_magnitude_vector (O,)
    embedding           .lora_embedding_A (R, V)          .lora_embedding_B (O, R)
    convolution         .lora_A.weight (R, I, *kernel)    .lora_B.weight (O, R/G, 1, ...)
    bias of an adapted module                             .base_layer.bias
    attention's out_proj                                  .base_layer.out_proj + as linear
    what is trained in full                               its own name

Fused slices are written as one LoRA of the summed rank with a block-shaped B, a grouped
convolution's A with zeros between the groups, and loralib's matrix form of a convolution in kernel
form, so every reader computes the same function. What is needed to read those back as they were,
the base's fingerprint and the config itself stand in the safetensors header under `lorakit`; PEFT
ignores that.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import Kind
from lorakit.errors import FormatError

PREFIX = "base_model.model."
HEADER = "lorakit"
HEADER_VERSION = 1

OUT_PROJ = ".base_layer.out_proj"
MAGNITUDE = ".lora_magnitude_vector"
FACTORS: dict[str, tuple[str, Kind | None]] = {
    ".lora_A.weight": ("lora_A", None),
    ".lora_B.weight": ("lora_B", None),
    ".lora_embedding_A": ("lora_A", "embedding"),
    ".lora_embedding_B": ("lora_B", "embedding"),
    MAGNITUDE: ("lora_magnitude_vector", None),
}


Check = tuple[str, Callable[[Any], bool]]
"""What a field must be, in words and as a test."""


@dataclass(frozen=True)
class PeftFiles:
    """The contents of the two files."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    header: dict[str, Any] | None


def header_text(header: Mapping[str, Any]) -> dict[str, str]:
    """The safetensors metadata."""
    return {"format": "pt", HEADER: json.dumps(header, sort_keys=True)}


def parse_header(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """lorakit's part of the safetensors metadata, if there is one."""
    text = (metadata or {}).get(HEADER)
    if text is None:
        return None
    try:
        header = json.loads(text)
    except json.JSONDecodeError as error:
        raise FormatError(f"The file's lorakit header is damaged: {error}") from error
    if not isinstance(header, dict) or not isinstance(header.get("config"), dict):
        raise FormatError("The file's lorakit header is damaged: it holds no config.")
    if header.get("version") != HEADER_VERSION:
        raise FormatError(
            f"The file's lorakit header has version {header.get('version')!r}; this lorakit reads "
            f"version {HEADER_VERSION}. Update lorakit."
        )
    problems = type_problems(header, _HEADER_TYPES)
    if problems:
        raise FormatError("The file's lorakit header is damaged:", problems)
    return dict(header)


def type_problems(table: Mapping[str, Any], types: Mapping[str, Check]) -> list[str]:
    """The fields that are there, not null, and of another type than `types` says."""
    return [
        f"{name} is {table[name]!r}; it must be {what}"
        for name, (what, fits) in types.items()
        if table.get(name) is not None and not fits(table[name])
    ]


def _table_of(kind: type) -> Callable[[Any], bool]:
    """Whether a value is a table with values of this type; JSON has no other keys than strings."""
    return lambda value: isinstance(value, dict) and all(type(v) is kind for v in value.values())


def _is_class(value: Any) -> bool:
    return isinstance(value, list) and [type(part) for part in value] == [str, str]


_HEADER_TYPES: dict[str, Check] = {
    "modules": ("a table of tables", _table_of(dict)),
    "fingerprint": ("a table of strings", _table_of(str)),
    "base_class": ("a module and a class", _is_class),
    "num_labels": ("a whole number above 0", lambda value: type(value) is int and value > 0),
}
