"""Parents that read a child's weight instead of calling its forward.

nn.MultiheadAttention computes with `out_proj.weight`, nn.TransformerEncoderLayer's fast path with
`linear1.weight` and `linear2.weight`, Mamba with `dt_proj.weight`; an adapter in the child's
forward would never run. Reading the `weight` of such a child, once adapted, returns
W + scaling * B A, differentiable in A and B, while the parameter of that name stays W. This is
supported for linear layers only.

Parents are recognised by their class names, since this package imports torch alone. The names come
from the modeling files of transformers; a weight that only a fused kernel there reads counts too.
"""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn
from torch.nn.modules.module import register_module_module_registration_hook

from lorakit.errors import ConfigError
from lorakit.layers.base import AdapterLayer
from lorakit.layers.composition import merged_on_read

_READ_IN_TRAINING = {
    "MultiheadAttention": "out_proj",
    "MambaMixer FalconMambaMixer": "conv1d x_proj dt_proj out_proj",
    "JambaMambaMixer": "conv1d dt_proj",
    "Mamba2Mixer BambaMixer FalconH1Mixer GraniteMoeHybridMambaLayer NemotronHMamba2Mixer "
    "Zamba2MambaMixer": "conv1d out_proj",
    "ZambaMambaMixer Qwen3NextGatedDeltaNet Qwen3_5GatedDeltaNet Qwen3_5MoeGatedDeltaNet "
    "OlmoHybridGatedDeltaNet KimiLinearDeltaAttention": "conv1d",
    "RecurrentGemmaRecurrentBlock": "conv_1d",
    "Lfm2ShortConv Lfm2MoeShortConv Lfm3ShortConv": "conv",
    "MobileBertLMPredictionHead": "dense decoder",
    "WavLMAttention": "q_proj k_proj v_proj out_proj",
    "TDNNLayer": "kernel",
    "DetrMHAttentionMap ConditionalDetrMHAttentionMap MaskFormerDetrMHAttentionMap": "k_proj",
    "DabDetrMHAttentionMap": "k_linear",
    "DetrModel ConditionalDetrModel DeformableDetrModel TableTransformerModel GroundingDinoModel "
    "MMGroundingDinoModel": "query_position_embeddings",
    "DebertaEncoder DebertaV2Encoder SEWDTransformerEncoder": "rel_embeddings",
    "SamMaskDecoder Sam2MaskDecoder SamHQMaskDecoder": "iou_token mask_tokens",
    "LayoutLMv2Encoder LayoutLMv3Encoder": "rel_pos_bias rel_pos_x_bias rel_pos_y_bias",
    "Gemma3nTextAltUp": "correction_coefs",
    "Gemma4AssistantForCausalLM Gemma4UnifiedAssistantForCausalLM": "lm_head",
    "LongcatFlashTopkRouter": "classifier",
}
"""Classes of parents -> children whose forward, and so dropout, may not run in training."""

_READ_SOMETIMES = {
    "TransformerEncoderLayer": "linear1 linear2",  # in inference
    "BloomAttention": "dense",  # with pretraining_tp and slow_but_exact
    "BloomMLP": "dense_4h_to_h",
    "DisentangledSelfAttention": "in_proj",  # with query states of its own
    "LSHSelfAttention": "query_key value",  # with a cache
}
"""The same for children whose forward runs in ordinary training."""


def _by_class(table: Mapping[str, str]) -> dict[str, frozenset[str]]:
    return {
        name: frozenset(children.split())
        for names, children in table.items()
        for name in names.split()
    }


_IN_TRAINING, _SOMETIMES = _by_class(_READ_IN_TRAINING), _by_class(_READ_SOMETIMES)
_watching = False


def _reads(table: Mapping[str, frozenset[str]], parent: nn.Module, child: str) -> bool:
    return any(child in table.get(kind.__name__, ()) for kind in type(parent).__mro__)


def reads_weight(parent: nn.Module, child: str) -> bool:
    """Whether `parent` may compute with the weight of its `child` without calling it."""
    return _reads(_IN_TRAINING, parent, child) or _reads(_SOMETIMES, parent, child)


def reader_of(model: nn.Module, name: str) -> nn.Module | None:
    """The parent that may compute with the weight of the module of this name, if it does."""
    parent, _, child = name.rpartition(".")
    found = model.get_submodule(parent)
    return found if reads_weight(found, child) else None


def is_never_called(parent: nn.Module, child: str) -> bool:
    """Whether `parent` may train without ever calling its `child`."""
    return _reads(_IN_TRAINING, parent, child)


def reader_problem(
    parent: nn.Module, child: str, dropout: float = 0, changes_bias: bool = False
) -> str | None:
    """Why the child cannot be adapted (with this dropout, or a bias), since its weight is read."""
    if not reads_weight(parent, child):
        return None
    reads = f"has its weight read by {type(parent).__name__}, which never calls its forward"
    if not isinstance(parent._modules.get(child), nn.Linear):
        return f"{reads}, so an adapter would have no effect"
    if changes_bias:
        return f"{reads}, so the bias of lora_bias would have no effect"
    if dropout and _reads(_IN_TRAINING, parent, child):
        return f"{reads}, so lora_dropout must be 0"
    return None


def watch_parents(layer: AdapterLayer) -> None:
    """Apply `merge_on_read` to layers that are constructed and then assigned to a parent."""
    global _watching
    if layer.r and not _watching:
        register_module_module_registration_hook(merge_on_read)
        _watching = True


def merge_on_read(parent: nn.Module, name: str, child: nn.Module | None) -> None:
    """Let the weight of an adapted `child` read as W + dW if `parent` reads it."""
    if isinstance(child, AdapterLayer) and child.r and reads_weight(parent, name):
        changes_bias = child.variant.changes_bias
        problem = reader_problem(parent, name, child.lora_dropout, changes_bias)
        if problem:
            raise ConfigError(f"{name} cannot be adapted:", [f"it {problem}"])
        child.__class__ = merged_on_read(type(child))
