"""PEFT's directory: adapter_config.json and adapter_model.safetensors.

Tensor names are `base_model.model.` + module + suffix:

    linear, attention   .lora_A.weight (R, I)             .lora_B.weight (O, R)
    linear, lora_bias   the same, and .lora_B.bias (O,)
    linear with DoRA    the same, and .lora_magnitude_vector (O,)
    embedding           .lora_embedding_A (R, V)          .lora_embedding_B (O, R)
    convolution         .lora_A.weight (R, I, *kernel)    .lora_B.weight (O, R/G, 1, ...)
    bias of an adapted module                             .base_layer.bias
    attention's out_proj                                  .base_layer.out_proj + as linear
    parameter of a module, E matrices  .lora_A.weight (E * R, I)  .lora_B.weight (O, R * E)
    what is trained in full                               its own name

Several parameters of one module nest (`parameters`). Fused slices are written as one LoRA of the
summed rank with a block-shaped B, a grouped convolution's A with zeros between the groups, and
loralib's matrix form of a convolution in kernel form, so every reader computes the same function.
What is needed to restore the original form, the base's fingerprint and the config itself are stored
in the safetensors header under `lorakit`, which PEFT ignores.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lorakit.checkpoint.header import (
    BASE_TYPES,
    Check,
    is_names,
    parse_table,
    require_version,
    table_of,
    type_problems,
)
from lorakit.errors import FormatError
from lorakit.variants.lora_bias import OFFSET

CONFIG_NAME = "adapter_config.json"
TENSORS_NAME = "adapter_model.safetensors"
LEGACY_NAME = "adapter_model.bin"
"""What PEFT wrote before safetensors."""
PREVIOUS_CONFIG_NAME = ".adapter_config.json.previous"
"""The name of the old config while a save replaces the other files."""

DEFAULTS: dict[str, Any] = {
    "alpha_pattern": {},
    "auto_mapping": None,
    "bias": "none",
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "layers_pattern": None,
    "layers_to_transform": None,
    "lora_dropout": 0.0,
    "lora_bias": False,
    "modules_to_save": None,
    "rank_pattern": {},
    "target_parameters": None,
    "task_type": None,
    "use_dora": False,
    "use_rslora": False,
}
"""PEFT's defaults of fields that are left out at them; `r` and `lora_alpha` always stand in the
config, since other readers need them."""

CLASS_FIELDS = ("parent_library", "base_model_class")
"""The fields of `auto_mapping` in the config: the module and the name of the base's class."""

PREFIX = "base_model.model."

OUT_PROJ = ".base_layer.out_proj"
TRANSPOSED = "transposed"
"""The header's list of modules whose weights are (in, out), where there is one."""
MAGNITUDE = ".lora_magnitude_vector"
FACTORS = {
    ".lora_A.weight": "lora_A",
    ".lora_B.weight": "lora_B",
    ".lora_B.bias": OFFSET,
    MAGNITUDE: MAGNITUDE[1:],
}
EMBEDDING_FACTORS = {".lora_embedding_A": "lora_A", ".lora_embedding_B": "lora_B"}
ALL_FACTORS = FACTORS | EMBEDDING_FACTORS
"""Suffix of a module's name -> the tensor's name in a layer."""


@dataclass(frozen=True)
class PeftFiles:
    """The contents of the two files."""

    config: dict[str, Any]
    tensors: dict[str, Tensor]
    header: dict[str, Any] | None
    checksum: str | None = None


def parse_header(metadata: Mapping[str, str] | None) -> dict[str, Any] | None:
    """lorakit's part of the safetensors metadata, if there is one; FormatError if it is invalid."""
    header = parse_table(metadata)
    if header is None:
        return None
    if not isinstance(header.get("config"), dict):
        raise FormatError("The file's lorakit header is invalid: it has no config.")
    require_version(header)
    if problems := type_problems(header, _HEADER_TYPES):
        raise FormatError("The file's lorakit header is invalid:", problems)
    return header


_HEADER_TYPES: dict[str, Check] = {
    "modules": ("a dict of dicts", table_of(dict)),
    TRANSPOSED: ("a list of names", is_names),
    **BASE_TYPES,
}
