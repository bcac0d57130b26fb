"""What a transformers model says about its tied weights, in its config and in a list of names.

It ties by that again: `tie_weights` and `resize_token_embeddings` do in the model, and
`from_pretrained` does in what was saved.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import nn

from lorakit.injection.selection.architectures import SCALED_BY_TIE
from lorakit.private.transformers_names import declare_ties, tied_weights
from lorakit.surgery.alteration import alteration, altered
from lorakit.surgery.ties import storage_key


def take_back(module: nn.Module) -> tuple[bool, Mapping[str, str]]:
    """Let this module no longer say that weights are tied which do not share their memory.

    The config has one flag for all; it stays where the logits are computed by it.

    Returns whether the flag was changed, and the names that were declared as tied.
    """
    config: Any = getattr(module, "config", None)
    flag = getattr(config, "tie_word_embeddings", False)
    changed = bool(flag) and config.model_type not in SCALED_BY_TIE
    if changed:
        config.tie_word_embeddings = False
    tied = tied_weights(module)
    if tied:
        parameters = module.named_parameters(remove_duplicate=False)
        memory = {name: storage_key(parameter) for name, parameter in parameters}
        one = {n: s for n, s in tied.items() if n in memory and memory[n] == memory.get(s)}
        declare_ties(module, one)
    return changed, tied


def take_back_until_eject(model: nn.Module) -> None:
    """`take_back` for every module, recorded so that `declare_again` undoes it."""
    for module in model.modules():
        said = take_back(module)
        if any(said):
            altered(module).declared_ties = said


def declare_again(module: nn.Module) -> None:
    """Let this module say what it said before `take_back_until_eject`."""
    record = alteration(module)
    changed, tied = (record and record.declared_ties) or (False, {})
    if changed:
        config: Any = module.config
        config.tie_word_embeddings = True
    if tied:
        declare_ties(module, tied)
