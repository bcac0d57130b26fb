"""What the parts of a transformer block are called, as a table of layouts.

transformers' modeling files repeat a few layouts; a block has the first one whose every part it
has, so that a new architecture of a known layout needs no entry. What the modules of a layout give
is the contribution of the sublayer, the last thing before the residual sum: behind the dropout or
the norm that some have there, where that is a module of its own.

Cross-attention has no adapter, as with the `adapters` library's defaults.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from torch import nn

UNKNOWN = "?"
"""In the place of a norm: the block may be post-LN or pre-LN."""


def _any(block: nn.Module) -> bool:
    return True


def _of_file(names: str, block: nn.Module) -> bool:
    """Whether transformers defines the block in the modeling file of one of these models."""
    return type(block).__module__.rpartition(".modeling_")[2] in names.split()


def _normalises_before(expected: bool, block: nn.Module) -> bool:
    return getattr(block, "do_layer_norm_before", None) is expected


def _is_stable(block: nn.Module) -> bool:
    return "StableLayerNorm" in type(block).__name__


@dataclass(frozen=True)
class Layout:
    """Names in a block, dotted."""

    attention: str
    """The module whose output is added to the residual stream after the attention."""
    mlp: str
    """The same of the MLP, or of the mixture of experts in its place."""
    norm: str | None = None
    """The norm of the sum after the MLP, of a post-LN block; None for a pre-LN block, or UNKNOWN
    for one that may be either."""
    has: tuple[str, ...] = ()
    """More parts, which tell the layout from others with the same names."""
    only: Callable[[nn.Module], bool] = _any
    """What else holds for a block, where the names alone do not say which layout it has."""

    def fits(self, block: nn.Module) -> bool:
        """Whether the block has these parts."""
        parts = [self.attention, self.mlp, *self.has]
        if self.norm not in (None, UNKNOWN):
            parts.append(self.norm)
        return all(part_of(block, part) is not None for part in parts) and self.only(block)


def part_of(block: nn.Module, name: str) -> nn.Module | None:
    """The module of this dotted name in a block, "" for itself; None if there is none."""
    found: nn.Module | None = block
    for part in filter(None, name.split(".")):
        found = found._modules.get(part) if found is not None else None
    return found


_PRE_NORMS = [
    "input_layernorm",
    "layernorm_before",
    "layer_norm1",
    "ln_1",
    "norm1",
    "norm_1",
    "attn_norm",
]
_ATTENTIONS = ["self_attn", "attn", "attention", "self_attention"]
_MLPS = ["mlp", "ffn", "feed_forward", "block_sparse_moe"]

_FAIRSEQ = partial(Layout, "self_attn", "fc2", has=("self_attn_layer_norm", "final_layer_norm"))
_SPEECH = partial(Layout, "dropout", "feed_forward", has=("attention", "layer_norm"))

LAYOUTS = (
    # BERT, RoBERTa, ELECTRA, DeBERTa; then those of them that are pre-LN
    Layout("attention.output.dropout", "output.dropout", "output.LayerNorm"),
    Layout("attention.output.dropout", "output.dropout"),
    Layout("attention.dropout", "output.dropout", "output.LayerNorm"),  # MPNet
    Layout("attention", "ffn", "output_layer_norm", has=("sa_layer_norm",)),  # DistilBERT
    Layout("attention.output_dropout", "ffn_output", "full_layer_layer_norm"),  # ALBERT
    # T5: the decoder's, then the encoder's
    Layout("layer.0.dropout", "layer.2.dropout", has=("layer.0.SelfAttention",)),
    Layout("layer.0.dropout", "layer.1.dropout", has=("layer.0.SelfAttention",)),
    # a norm of what a sublayer gives: Gemma 2, OLMo 2; GLM 4
    Layout("post_attention_layernorm", "post_feedforward_layernorm"),
    Layout("post_self_attn_layernorm", "post_mlp_layernorm"),
    Layout("layer_scale1", "layer_scale2", has=("norm1",)),  # DINOv2, DINOv3
    # a dropout of its own: Nomic BERT, GPT-NeoX, Phi 3, NLLB-MoE
    Layout("post_attention_dropout", "post_mlp_dropout", "post_mlp_layernorm"),
    Layout("post_attention_dropout", "post_mlp_dropout"),
    Layout("resid_attn_dropout", "resid_mlp_dropout"),
    Layout("attn_dropout", "ff_dropout", has=("self_attn_layer_norm",)),
    # Bloom, and MPT, whose modules for a sublayer add the residual themselves
    Layout("self_attention.dense", "mlp.dense_4h_to_h"),
    Layout("resid_attn_dropout", "ffn.down_proj"),
    # BART, OPT, Whisper and what else came from fairseq, in either order
    _FAIRSEQ("final_layer_norm", only=partial(_normalises_before, False)),
    _FAIRSEQ(None, only=partial(_normalises_before, True)),
    _FAIRSEQ("final_layer_norm", only=partial(_of_file, "bart plbart marian led blenderbot_small")),
    _FAIRSEQ(
        None,
        only=partial(
            _of_file,
            "mbart pegasus bigbird_pegasus blenderbot m2m_100 whisper speech_to_text xglm biogpt",
        ),
    ),
    _FAIRSEQ(UNKNOWN),
    _SPEECH(None, only=_is_stable),  # wav2vec 2.0, HuBERT, WavLM
    _SPEECH("final_layer_norm"),
    # GPT-1, with the names of GPT-2
    Layout("attn", "mlp", "ln_2", only=partial(_of_file, "openai")),
    # Llama and most decoders since, GPT-2, GPT-J, ViT, CLIP
    *(
        Layout(attention, mlp, has=(norm,))
        for norm in _PRE_NORMS
        for attention in _ATTENTIONS
        for mlp in _MLPS
    ),
    *(Layout(attention, mlp, UNKNOWN) for attention in _ATTENTIONS for mlp in _MLPS),
)
"""In the order in which they are tried."""


def layout_of(block: nn.Module) -> Layout | None:
    """The layout of a block; None if it has no known one."""
    return next((layout for layout in LAYOUTS if layout.fits(block)), None)
