"""Modules whose input does not begin with the rows of the batch, by what is known of their parents.

Parents are recognised by their class names, which come from the modeling files of transformers. Of
other models the sizes of each input tell, see `batch`.
"""

from __future__ import annotations

from torch import nn

_SEQUENCE_FIRST = frozenset(
    {
        "LongformerSelfAttention",
        "LEDEncoderSelfAttention",
        "XLNetModel",
        "FSMTModel",
        "Mask2FormerAttention",
        "Mask2FormerMaskedAttentionDecoder",
        "OneFormerAttention",
        "OneFormerTransformerDecoder",
        "OneFormerTextEncoder",
        "BridgeTowerVisionTransformer",
    }
)
"""Classes in which tokens are the first dimension, and rows the second."""

_IN_PIECES = frozenset(
    {
        "SwinEncoder",
        "Swinv2Encoder",
        "Swin2SREncoder",
        "DonutSwinEncoder",
        "MaskFormerSwinEncoder",
        "ClapAudioEncoder",
        "SamVisionEncoder",
        "SamHQVisionEncoder",
        "Sam2HieraDetModel",
        "Sam3ViTModel",
        "GotOcr2VisionEncoder",
        "SLANeXtVisionEncoder",
        "VitDetEncoder",
        "TimesformerEncoder",
        "PatchTSTEncoder",
    }
)
"""Classes that cut each row into as many pieces, such as windows of an image, one after another."""

_RELATIVE = {
    False: ("pos_proj", "pos_q_proj", "pos_key_proj", "pos_query_proj"),
    True: ("query_proj", "key_proj"),
}
"""Children of DeBERTa's attention that read relative positions; where they share weights or not."""


def cuts_rows(model: nn.Module) -> bool:
    """Whether a part of the model computes pieces of rows as rows of their own."""
    return any(_is_one_of(module, _IN_PIECES) for module in model.modules())


def mixed_up(model: nn.Module, name: str) -> str | None:
    """Why the input of this module does not begin with the rows of a batch, where that is known."""
    path = name.split(".")
    parents = [model.get_submodule(".".join(path[:n])) for n in range(len(path) + 1)]
    for module in parents:
        if _is_one_of(module, _SEQUENCE_FIRST) or _is_sequence_first(module):
            return f"is in {type(module).__name__}, whose first dimension is the tokens'"
    if _reads_positions(parents[-2], path[-1]):
        return "is given relative positions too, which all rows share"
    if not {"expert", "experts"}.isdisjoint(path):
        return "is an expert's, which is given tokens of any rows"
    return None


def _is_one_of(module: nn.Module, classes: frozenset[str]) -> bool:
    return any(kind.__name__ in classes for kind in type(module).__mro__)


def _is_sequence_first(module: nn.Module) -> bool:
    """Of torch's own attention: `batch_first=False`, its default."""
    if isinstance(module, nn.TransformerEncoder | nn.TransformerDecoder):
        module = next(iter(module.layers), module)
    if isinstance(module, nn.TransformerEncoderLayer | nn.TransformerDecoderLayer):
        module = module.self_attn
    known = isinstance(module, nn.MultiheadAttention | nn.Transformer)
    return known and not module.batch_first


def _reads_positions(parent: nn.Module, child: str) -> bool:
    if type(parent).__name__ != "DisentangledSelfAttention":
        return False
    shares = bool(getattr(parent, "share_att_key", False))
    return bool(getattr(parent, "relative_attention", False)) and child in _RELATIVE[shares]
