"""Prefix-layer tuning, the PreLayer of the paper (arXiv 2106.09685, section 5.1).

The activations of the l_p + l_i virtual tokens are trained in every layer, in place of those that
the layer before computes: L d (l_p + l_i) parameters. Each of the L sets is the input of one layer,
so keys and values of the virtual tokens come of them by the layer's own weights.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.methods.prefixes.additions import CHILD, insertions
from lorakit.methods.prefixes.config import PrefixLayerConfig
from lorakit.methods.prefixes.method import Prefixed
from lorakit.methods.prefixes.places import Places, stack_of
from lorakit.methods.prefixes.prefixed_layer import LayerNumber, PrefixedLayer
from lorakit.methods.prefixes.rows import trainable_rows
from lorakit.methods.prefixes.words import word_activations
from lorakit.surgery.additions import Addition


class PrefixLayer(Prefixed[PrefixLayerConfig]):
    """Virtual tokens with activations of their own in every layer."""

    name = "prefix_layer"
    title = "prefix layer"
    config_type = PrefixLayerConfig
    rate = 6.0

    def virtual_tokens(
        self, model: nn.Module, found: Places, config: PrefixLayerConfig
    ) -> Sequence[Addition]:
        return layer_additions(model, found, config)


def layer_additions(model: nn.Module, found: Places, config: PrefixLayerConfig) -> list[Addition]:
    """What gives a model virtual tokens with activations in every layer; raises TargetError."""
    count = config.prefix + config.infix
    stack = stack_of(model, found, config.layers_pattern)
    start = word_activations(found.backbone, found.embeddings, stack, count)
    rows = trainable_rows(start, config.reparametrisation)
    ids = [_plain_id(found.embeddings)] * count
    layers = len(stack.blocks)
    return [
        *insertions(model, found, config.prefix, config.infix, ids, rows, layers),
        *(
            Addition(block.module, CHILD, LayerNumber(number), PrefixedLayer)
            for number, block in enumerate(stack.blocks)
        ),
    ]


def _plain_id(embeddings: nn.Embedding) -> int:
    """A token that is no padding, whose embedding the first layer does not see."""
    return 0 if embeddings.padding_idx != 0 else 1
