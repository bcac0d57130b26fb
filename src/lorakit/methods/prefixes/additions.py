"""What is added to a model that gets virtual tokens."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from lorakit.methods.prefixes.cross_attention import EncodedTokens, SeesVirtualTokens
from lorakit.methods.prefixes.insertion import Insertion, WithVirtualTokens
from lorakit.methods.prefixes.places import Places, arguments
from lorakit.methods.prefixes.prompts import KnowsPrompts, Prompts
from lorakit.surgery.additions import Addition

CHILD = "prefix"
"""The name of each child that is added."""


def insertions(
    model: nn.Module,
    found: Places,
    prefix: int,
    infix: int,
    ids: Sequence[int],
    rows: nn.Module | None = None,
    layers: int = 0,
) -> list[Addition]:
    """What puts the virtual tokens with these ids into the model.

    `rows` are their activations in each of the `layers`, one after another.
    """
    insertion = Insertion(
        prefix,
        infix,
        ids,
        arguments(found.backbone),
        is_causal=found.is_causal,
        drops=found.decoder is None,
        limit=found.limit,
        rows=rows,
        layers=layers,
    )
    added = [Addition(found.backbone, CHILD, insertion, WithVirtualTokens)]
    if found.decoder is not None:
        reader = EncodedTokens(prefix, infix, arguments(found.decoder))
        added.append(Addition(found.decoder, CHILD, reader, SeesVirtualTokens))
    if found.generates:
        prompts = Prompts(arguments(model), infix)
        added.append(Addition(model, CHILD, prompts, KnowsPrompts))
    return added
