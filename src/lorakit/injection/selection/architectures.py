"""The projections of attention, by `model_type`; the default target modules are query and value.

The paper adapts W_q and W_v (arXiv 2106.09685, sections 4.2 and 7.1). The names are those in
transformers' modeling files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from lorakit.config.attention import ROLES
from lorakit.injection.selection.vocabulary import is_resized_head
from lorakit.private.transformers_names import count_as_loaded, is_loaded

_PROJECTIONS = {
    ("query", "key", "value", "attention.output.dense"): "bert camembert data2vec-text "
    "data2vec-vision electra ernie layoutlm roberta roberta-prelayernorm xlm-roberta",
    ("query", "key", "value", "attention.dense"): "albert",
    ("query_proj", "key_proj", "value_proj", "attention.output.dense"): "deberta-v2",
    ("q_lin", "k_lin", "v_lin", "out_lin"): "distilbert",
    ("q", "k", "v", "o"): "mt5 t5 umt5",
    ("q_proj", "k_proj", "v_proj", "out_proj"): "bart blenderbot m2m_100 marian mbart opt pegasus "
    "whisper",
    ("q_proj", "k_proj", "v_proj", "self_attn.out_proj"): "clip clip_text_model clip_vision_model "
    "siglip siglip_vision_model",
    ("q_proj", "k_proj", "v_proj", "o_proj"): "beit cohere cohere2 deit gemma gemma2 gemma3_text "
    "granite llama mistral mixtral olmo olmo2 qwen2 qwen3 smollm3 stablelm starcoder2 vit",
    ("q_proj", "k_proj", "v_proj", "self_attn.dense"): "phi",
}
"""Names of W_q, W_k, W_v and W_o, for these model types."""
_FUSED_QKV = {"gpt2": ("c_attn", "attn.c_proj")}
"""Names of one weight for the first three, and of W_o."""

SCALED_BY_TIE = ("switch_transformers", "udop", "umt5")
"""The `model_type`s that scale the output of the decoder where the config's `tie_word_embeddings`
is true, whether the weights are tied or not. `from_pretrained` ties no weights that differ."""

_OUTPUT = "o"
"""The role of what stands behind attention, and is never in one weight with the others."""

Parts = tuple[tuple[int | None, bool], ...]


@dataclass(frozen=True)
class AttentionTargets:
    """What projections of attention are called in one architecture."""

    modules: tuple[str, ...]
    slices: dict[str, Parts]


def default_targets(model: nn.Module) -> AttentionTargets | None:
    """What `target_modules=None` means for this model; None for an unknown or plain one."""
    return attention_targets(model, "qv")


def attention_targets(model: nn.Module, roles: str) -> AttentionTargets | None:
    """The projections of these roles by the model's `config.model_type`; None if that is unknown.

    `roles` are letters of `lorakit.config.attention.ROLES`.
    """
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    for names, types in _PROJECTIONS.items():
        if model_type in types.split():
            chosen = [name for role, name in zip(ROLES, names, strict=True) if role in roles]
            return AttentionTargets(tuple(chosen), {})
    if model_type not in _FUSED_QKV:
        return None
    fused, output = _FUSED_QKV[model_type]
    parts = tuple((None, role in roles) for role in ROLES if role != _OUTPUT)
    adapts = any(adapted for _, adapted in parts)
    chosen = [*([fused] if adapts else []), *([output] if _OUTPUT in roles else [])]
    return AttentionTargets(tuple(chosen), {fused: parts} if adapts else {})


def backbone(model: nn.Module) -> str | None:
    """The name of a transformers model's backbone without its head; None if there is none."""
    prefix = getattr(model, "base_model_prefix", "")
    return prefix if prefix and prefix in model._modules else None


def unloaded(model: nn.Module) -> list[str]:
    """Names of newly initialized parameters, which `from_pretrained` did not find.

    Empty for a model that `from_pretrained` did not load.
    """
    marks = {name: is_loaded(p) for name, p in model.named_parameters()}
    if not any(marks.values()):
        return []
    return [name for name, marked in marks.items() if not (marked or is_resized_head(model, name))]


def mark_loaded(model: nn.Module, parameters: Iterable[nn.Parameter]) -> None:
    """Mark these as loaded too, on a model that transformers loaded: they are trained."""
    if any(map(is_loaded, model.parameters())):
        for parameter in parameters:
            count_as_loaded(parameter)
