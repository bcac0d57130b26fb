"""Prefix-embedding tuning, the PreEmbed of the paper (arXiv 2106.09685, section 5.1).

The l_p + l_i virtual tokens have trainable word embeddings: d (l_p + l_i) parameters. Without an
infix it is prompt tuning (Lester et al., arXiv 2104.08691).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.formats.peft.prompt_tuning import PROMPT
from lorakit.errors import MismatchError
from lorakit.injection.transfer.loading import LoadReport
from lorakit.methods.prefixes.additions import CHILD, insertions
from lorakit.methods.prefixes.config import PrefixConfig
from lorakit.methods.prefixes.method import Prefixed
from lorakit.methods.prefixes.places import Places, places
from lorakit.methods.prefixes.rows import trainable_rows
from lorakit.methods.prefixes.virtual_embedding import VirtualEmbedding, virtual_ids
from lorakit.methods.prefixes.words import word_embeddings
from lorakit.surgery.additions import Addition
from lorakit.surgery.wrappers import unwrapped


class PrefixEmbedding(Prefixed[PrefixConfig]):
    """Virtual tokens with word embeddings of their own."""

    name = "prefix_embedding"
    title = "prefix embedding"
    config_type = PrefixConfig
    rate = 20.0

    def virtual_tokens(
        self, model: nn.Module, found: Places, config: PrefixConfig
    ) -> Sequence[Addition]:
        return embedding_additions(model, found, config)

    def load(
        self, model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> LoadReport:
        if PROMPT in bundle.trained:
            bundle = _at_its_place(unwrapped(model), bundle, origin)
        return super().load(model, bundle, origin, check_base)


def _at_its_place(model: nn.Module, bundle: AdapterBundle, origin: str) -> AdapterBundle:
    """The bundle of a prompt of PEFT's, with the name that its tensor has in this model."""
    found = places(model)
    writes = found.decoder is not None and getattr(model, "can_generate", bool)()
    here = {"CAUSAL_LM": found.generates, "SEQ_2_SEQ_LM": writes}
    if not here.get(str(bundle.task_type)):
        raise MismatchError(
            f"{origin} does not fit this {type(model).__name__}: its {PROMPT} are of a model that "
            f"completes prompts ({bundle.task_type})."
        )
    names = (name for name, module in model.named_modules() if module is found.embeddings)
    return replace(bundle, trained={f"{next(names)}.{CHILD}.weight": bundle.trained[PROMPT]})


def embedding_additions(model: nn.Module, found: Places, config: PrefixConfig) -> list[Addition]:
    """What gives a model virtual tokens with embeddings of their own."""
    ids = virtual_ids(config.prefix + config.infix)
    start = word_embeddings(found.embeddings, len(ids))
    rows = trainable_rows(start, config.reparametrisation)
    embedding = Addition(found.embeddings, CHILD, rows, VirtualEmbedding)
    return [embedding, *insertions(model, found, config.prefix, config.infix, ids)]
