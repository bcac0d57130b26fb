"""Models of transformers in llama.cpp: names of their tensors, and the order of their rows.

llama.cpp's converter writes the rows of q and k of Llama's head by head with both halves of a
rotation side by side, and the rows of B follow. The names are those of the `gguf` package.

Source: llama.cpp, `conversion/llama.py` (`LlamaModel.permute`) and its neighbours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from lorakit.errors import ConfigError, MissingDependencyError, suggest

_INTERLEAVED = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
_ARCHITECTURES = {
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3_text": "gemma3",
    "gpt2": "gpt2",
    "llama": "llama",
    "mistral": "llama",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen3": "qwen3",
    "starcoder2": "starcoder2",
}
"""`model_type` of a config -> llama.cpp's name, where each layer is one tensor there."""


@dataclass(frozen=True)
class Architecture:
    """A base as llama.cpp has it, by its config."""

    name: str
    """`general.architecture` of its files."""
    layers: int
    tied: bool
    """Whether head and embeddings are one tensor there."""
    config: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def tensor_of(self, module: str) -> str | None:
        """The name of a module's weight there; None if it has none."""
        table = _gguf().get_tensor_name_map(self._key, self.layers)
        name: str | None = table.get_name(f"{module}.weight", try_suffixes=(".weight",))
        return name

    def heads_of(self, tensor: str) -> int | None:
        """The number of heads whose rows are interleaved in a tensor; None for the usual order."""
        setting = _INTERLEAVED.get(tensor.split(".")[-2])
        if self.name != "llama" or setting is None:
            return None
        return int(self.config.get(setting) or self.config["num_attention_heads"])

    @property
    def _key(self) -> Any:
        names: Mapping[Any, str] = _gguf().MODEL_ARCH_NAMES
        return next(key for key, name in names.items() if name == self.name)


def architecture_of(config: Mapping[str, Any]) -> Architecture:
    """The architecture of a base's config; raises ConfigError for one that is not known."""
    kind = config.get("model_type")
    if kind not in _ARCHITECTURES:
        known = ", ".join(_ARCHITECTURES)
        raise ConfigError(
            f"The base is a {kind!r} model{suggest(str(kind), _ARCHITECTURES)}; adapters in GGUF "
            f"are written for {known}. For another one that llama.cpp knows, write the format "
            "portable, which its convert_lora_to_gguf.py reads."
        )
    layers = config.get("num_hidden_layers", config.get("n_layer"))
    if not isinstance(layers, int):
        raise ConfigError("The base's config says no number of layers (num_hidden_layers).")
    tied = bool(config.get("tie_word_embeddings", True))
    return Architecture(_ARCHITECTURES[kind], layers, tied, config)


def is_transposed(architecture: str, tensor: str) -> bool:
    """Whether transformers stores the weight (in, out), as it does those of GPT-2's layers."""
    return architecture == "gpt2" and tensor.startswith("blk.")


def interleaved(b: Tensor, heads: int) -> Tensor:
    """The rows of B (O, R) in llama.cpp's order."""
    return b.reshape(heads, 2, len(b) // heads // 2, -1).swapaxes(1, 2).reshape(b.shape)


def as_rotated(b: Tensor, heads: int) -> Tensor:
    """The rows of B in transformers' order: the inverse of `interleaved`."""
    return b.reshape(heads, len(b) // heads // 2, 2, -1).swapaxes(1, 2).reshape(b.shape)


def _gguf() -> Any:
    try:
        import gguf
    except ImportError as error:
        raise MissingDependencyError(
            "The names of llama.cpp's tensors need the gguf package: pip install 'lorakit[formats]'"
        ) from error
    return gguf
