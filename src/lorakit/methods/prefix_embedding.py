"""Prefix-embedding tuning, the PreEmbed of the paper (arXiv 2106.09685, section 5.1).

The l_p + l_i virtual tokens have trainable word embeddings: d (l_p + l_i) parameters. Without an
infix it is prompt tuning (Lester et al., arXiv 2104.08691).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.methods.prefixes.additions import CHILD, insertions
from lorakit.methods.prefixes.config import PrefixConfig
from lorakit.methods.prefixes.method import Prefixed
from lorakit.methods.prefixes.places import places
from lorakit.methods.prefixes.rows import trainable_rows
from lorakit.methods.prefixes.virtual_embedding import VirtualEmbedding, virtual_ids
from lorakit.methods.prefixes.words import word_embeddings
from lorakit.surgery.additions import Addition


class PrefixEmbedding(Prefixed[PrefixConfig]):
    """Virtual tokens with word embeddings of their own."""

    name = "prefix_embedding"
    title = "prefix embedding"
    config_type = PrefixConfig

    def additions(self, model: nn.Module, config: PrefixConfig) -> Sequence[Addition]:
        return embedding_additions(model, config)


def embedding_additions(model: nn.Module, config: PrefixConfig) -> list[Addition]:
    """What gives a model virtual tokens with these settings; raises TargetError."""
    found, ids = places(model), virtual_ids(config.prefix + config.infix)
    start = word_embeddings(found.embeddings, len(ids))
    rows = trainable_rows(start, config.reparametrisation)
    embedding = Addition(found.embeddings, CHILD, rows, VirtualEmbedding)
    return [embedding, *insertions(model, found, config.prefix, config.infix, ids)]
