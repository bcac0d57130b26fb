"""Names of modules in mlx-lm's models, by the `model_type` of their base's config.

mlx-lm refuses an adapter whose names it does not have, and it has transformers' for some models
alone. Source: mlx-lm 0.32.2, `models/` (`sanitize` of each).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lorakit.errors import suggest

_SAME = (
    "cohere",
    "cohere2",
    "ernie4_5",
    "gemma",
    "gemma2",
    "gemma3_text",
    "glm",
    "glm4",
    "gpt_oss",
    "granite",
    "granitemoe",
    "helium",
    "hunyuan_v1_dense",
    "llama",
    "ministral3",
    "mistral",
    "mixtral",
    "nemotron",
    "olmo2",
    "phi",
    "phi3",
    "qwen2",
    "qwen2_moe",
    "qwen3",
    "seed_oss",
    "smollm3",
    "stablelm",
    "starcoder2",
)
_BEGINS: Mapping[str, Mapping[str, str]] = {
    **{kind: {"model.": "model.", "lm_head": "lm_head"} for kind in _SAME},
    "gpt_bigcode": {"transformer.": "transformer."},
    "gpt2": {"transformer.": "model."},
    "gptj": {"transformer.": "model.", "lm_head": "lm_head"},
    "gpt_neox": {
        "gpt_neox.layers.": "model.h.",
        "gpt_neox.": "model.",
        "embed_out": "model.embed_out",
    },
}
"""`model_type` -> how a name begins in transformers -> how it begins in mlx-lm; the first counts.
Every linear layer and table of tokens of these models is there in both, except a tied head."""
FAMILIES = tuple(_BEGINS)

_TABLES_AND_HEADS = ("embed_tokens", "wte", "embed_in", "lm_head", "embed_out")


@dataclass(frozen=True)
class MlxNames:
    """The names of a base with this `model_type`."""

    model_type: str
    tied: bool
    """Whether head and table of tokens are one layer there."""

    def problem(self, module: str) -> str | None:
        """Why mlx-lm has no such module; None if it has."""
        if self.model_type not in _BEGINS:
            known = ", ".join(FAMILIES)
            return (
                f"the base is a {self.model_type!r} model{suggest(self.model_type, FAMILIES)}, "
                f"whose names in mlx-lm are not known; they are for {known}"
            )
        if self.tied and module.rpartition(".")[2] in _TABLES_AND_HEADS:
            return f"{module} is tied: mlx-lm has one layer for head and table, used apart here"
        if ".experts." in module or self._there(module) is None:
            return f"mlx-lm's {self.model_type} has no module {module}"
        return None

    def there(self, module: str) -> str:
        """The name in mlx-lm of a module without `problem`."""
        return self._there(module) or module

    def here(self, name: str) -> str:
        """The name in transformers of a module of mlx-lm's; any other as it is."""
        for begin, other in _BEGINS.get(self.model_type, {}).items():
            if name.startswith(other):
                return begin + name.removeprefix(other)
        return name

    def _there(self, module: str) -> str | None:
        for begin, other in _BEGINS[self.model_type].items():
            if module.startswith(begin):
                return other + module.removeprefix(begin)
        return None


def names_of(config: Mapping[str, Any]) -> MlxNames:
    """The names of the base with this config."""
    tied = bool(config.get("tie_word_embeddings", True))
    return MlxNames(str(config.get("model_type")), tied)
