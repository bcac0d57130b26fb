"""A quantised base is refused by its config, before its weights are loaded.

Every format that transformers reads names itself there: bitsandbytes, GPTQ, AWQ, FP8, ...
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lorakit.errors import FormatError

_KEYS = ("quantization_config", "compression_config", "quantization")
"""transformers', its name before 4.45 for compressed-tensors, and MLX's."""
_FILES = ("quantize_config.json", "quant_config.json", "hf_quant_config.json")
"""AutoGPTQ's, AutoAWQ's and ModelOpt's, before they wrote into the config."""


def require_unquantised(name: str, config: Any) -> None:
    """Raise FormatError for the config of a quantised base."""
    found = [*_formats(config.to_dict()), *(f for f in _FILES if (Path(name) / f).is_file())]
    if found:
        raise FormatError(
            f"The base model {name} is quantised ({', '.join(dict.fromkeys(found))}), and lorakit "
            "adapts weights in float32, bfloat16 and float16; pass the base that it was made from."
        )


def _formats(config: Mapping[str, Any]) -> Iterator[str]:
    """The quantisations that a config names, in its parts as well."""
    for key, value in config.items():
        if not isinstance(value, Mapping):
            continue
        if key in _KEYS and value:
            yield _title(value)
        else:
            yield from _formats(value)


def _title(settings: Mapping[str, Any]) -> str:
    """Its method and bits, as far as the settings say them."""
    bits = {"load_in_4bit": "4 bits", "load_in_8bit": "8 bits"}
    named = [text for key, text in bits.items() if settings.get(key)]
    width = settings.get("bits", settings.get("w_bit"))
    method = settings.get("quant_method") or ("bitsandbytes" if named else None)
    words = [method, *named, f"{width} bits" if width else None]
    return " ".join(str(word) for word in words if word) or "in an unnamed format"
