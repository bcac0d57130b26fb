"""How tensor parallelism cuts each module of a model: transformers' styles, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lorakit.injection.selection.naming import matches_suffix
from lorakit.layer_groups import without_indices

_COLUMNS = {"weight": -2, "bias": -1, "lora_B": -2, "lora_magnitude_vector": -1}
_ROWS = {"weight": -1, "lora_A": -1}

CUTS: dict[str, Mapping[str, int]] = {
    **dict.fromkeys(
        ["colwise", "colwise_gather_output", "colwise_rep", "packed_colwise"], _COLUMNS
    ),
    **dict.fromkeys(["rowwise", "rowwise_split_input", "rowwise_rep", "packed_rowwise"], _ROWS),
    "conv1d_colwise": {**_COLUMNS, "weight": -1},
    "conv1d_rowwise": {**_ROWS, "weight": -2},
    "embedding_rowwise": {"weight": -2},
    "embedding_colwise": {"weight": -1},
}
"""By style, the dimension in which a module's parameters are cut; what is not here is whole.

A low-rank update is cut as its weight: A and B have a side of it each, and r is whole.
"""
COLUMNS = {"colwise", "packed_colwise", "conv1d_colwise"}
"""The styles whose output stays cut."""
GATHERED = {"colwise_gather_output", "colwise_rep"}
"""Those whose output is put together again."""
ROWS = {style for style, cut in CUTS.items() if cut.get("lora_A")}
"""Those whose output is summed over the devices, and whole."""

_BERT = {
    "word_embeddings": "embedding_rowwise",
    **{f"attention.self.{name}": "colwise" for name in ("query", "key", "value")},
    **{f"attention.self.{name}_proj": "colwise" for name in ("query", "key", "value")},
    "attention.output.dense": "rowwise",
    "intermediate.dense": "colwise",
    "*.output.dense": "rowwise",
}
_GPT2 = {
    "wte": "embedding_rowwise",
    "attn.c_attn": "conv1d_colwise",
    "attn.c_proj": "conv1d_rowwise",
    "mlp.c_fc": "conv1d_colwise",
    "mlp.c_proj": "conv1d_rowwise",
    "lm_head": "colwise_gather_output",
}
_MEGATRON: dict[str, Mapping[str, str]] = {
    **dict.fromkeys(["bert", "roberta", "xlm-roberta", "deberta-v2", "electra"], _BERT),
    "gpt2": _GPT2,
}
"""By model type, where transformers has no plan: as Megatron-LM, arXiv 1909.08053, section 3."""


def tp_plan(model: Any) -> Mapping[str, str]:
    """Styles by name, or by the end of a name, with * for layer numbers; empty if none is known."""
    own: Mapping[str, str] = getattr(model, "tp_plan", {})
    return own or _MEGATRON.get(getattr(model.config, "model_type", ""), {})


def styles(model: nn.Module) -> dict[str, str]:
    """The style of each module, and of each parameter that the plan names, by full name."""
    plan = tp_plan(model)
    names = [name for name, _ in (*model.named_modules(), *model.named_parameters())]
    return {
        name: style
        for name in names
        for pattern, style in plan.items()
        if matches_suffix(without_indices(name), pattern)
    }
