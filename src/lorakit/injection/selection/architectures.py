"""The default target modules, query and value, by `model_type`.

The paper adapts W_q and W_v (arXiv 2106.09685, sections 4.2 and 7.1). The names are those in
transformers' modeling files.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from torch import nn

from lorakit.injection.selection.vocabulary import is_resized_head
from lorakit.private.transformers_names import count_as_loaded, is_loaded

_QUERY_VALUE = {
    (
        "query",
        "value",
    ): "albert bert camembert data2vec-text data2vec-vision electra ernie layoutlm roberta "
    "roberta-prelayernorm xlm-roberta",
    ("query_proj", "value_proj"): "deberta-v2",
    ("q_lin", "v_lin"): "distilbert",
    ("q", "v"): "mt5 t5 umt5",
    ("q_proj", "v_proj"): "bart beit blenderbot clip clip_text_model clip_vision_model cohere "
    "cohere2 deit gemma gemma2 gemma3_text granite llama m2m_100 marian mbart mistral mixtral olmo "
    "olmo2 opt pegasus phi qwen2 qwen3 siglip siglip_vision_model smollm3 "
    "stablelm starcoder2 vit whisper",
}
_FUSED_QKV = {"gpt2": "c_attn"}

SCALED_BY_TIE = ("switch_transformers", "udop", "umt5")
"""The `model_type`s that scale the output of the decoder where the config's `tie_word_embeddings`
is true, whether the weights are tied or not. `from_pretrained` ties no weights that differ."""

Parts = tuple[tuple[int | None, bool], ...]


@dataclass(frozen=True)
class DefaultTargets:
    """What `target_modules=None` means for one architecture."""

    modules: tuple[str, ...]
    slices: dict[str, Parts]


def default_targets(model: nn.Module) -> DefaultTargets | None:
    """The entry for this model's `config.model_type`; None for an unknown or plain model."""
    model_type = getattr(getattr(model, "config", None), "model_type", None)
    for modules, types in _QUERY_VALUE.items():
        if model_type in types.split():
            return DefaultTargets(modules, {})
    if model_type in _FUSED_QKV:
        name = _FUSED_QKV[model_type]
        return DefaultTargets((name,), {name: ((None, True), (None, False), (None, True))})
    return None


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
