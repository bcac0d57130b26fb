"""Augmentations for the second pass of a consistency loss: the batch itself, or a part cut off.

A view is a function `(inputs, ratio) -> (inputs, edit)`; `edit` changes the output of the model's
embeddings (B, T, H) for these examples, or is None. Padding tokens are never counted nor
drawn. All draws come from torch's own CPU generator, so a resumed run repeats them.

The three kinds of cutoff are those of Shen et al. 2020 (arXiv 2009.13818, section 3) as their
code (dinghanshen/Cutoff, transformers/trainer.py) draws them: token and feature with replacement.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from lorakit.errors import ConfigError

if TYPE_CHECKING:
    from lorakit.models.embeddings import Edit  # it loads transformers, which a recipe needs not

Inputs = dict[str, Tensor]
View = Callable[[Inputs, float], "tuple[Inputs, Edit | None]"]


def same(inputs: Inputs, ratio: float) -> tuple[Inputs, Edit | None]:
    """The batch itself: only dropout differs."""
    return inputs, None


def without_tokens(inputs: Inputs, ratio: float) -> tuple[Inputs, Edit | None]:
    """int(ratio * length) tokens are zero after the embeddings, and masked."""
    return _without(inputs, lambda length: torch.randint(length, (int(ratio * length),)))


def without_span(inputs: Inputs, ratio: float) -> tuple[Inputs, Edit | None]:
    """int(ratio * length) neighbouring tokens are zero after the embeddings, and masked."""

    def draw(length: int) -> Tensor:
        size = int(ratio * length)
        start = int(torch.rand(()) * (length - size))
        return torch.arange(start, start + size)

    return _without(inputs, draw)


def without_features(inputs: Inputs, ratio: float) -> tuple[Inputs, Edit | None]:
    """int(ratio * H) features of an example's embeddings are zero for all of its tokens."""

    def edit(states: Tensor) -> Tensor:
        size = states.shape[-1]
        kept = torch.ones(states.shape[0], size)
        for row in kept:
            row[torch.randint(size, (int(ratio * size),))] = 0
        return states * kept[:, None].to(states)

    return inputs, edit


def with_unknown_tokens(
    inputs: Inputs, ratio: float, unknown: int, special: Sequence[int]
) -> tuple[Inputs, Edit | None]:
    """Each token that is not special is replaced by `unknown` with probability `ratio`.

    Source: microsoft/LoRA, examples/NLU, `masking_prob`; the attention mask stays as it is.
    """
    ids = inputs["input_ids"]
    drawn = (torch.rand(ids.shape) < ratio).to(ids.device)
    replaced = drawn & ~torch.isin(ids, torch.tensor(special, device=ids.device))
    return {**inputs, "input_ids": ids.masked_fill(replaced, unknown)}, None


def unknown_tokens(tokenizer: Any) -> View:
    """`with_unknown_tokens` for a tokenizer; raises ConfigError if it has no unknown token."""
    names = ("cls", "sep", "pad", "bos", "eos")
    special = [getattr(tokenizer, f"{name}_token_id") for name in names]
    unknown = tokenizer.unk_token_id
    if unknown is None:
        raise ConfigError(
            "loss.kind loralib_cutoff replaces tokens by the unknown token, and this tokenizer has "
            "none (unk_token is not set); use cutoff_token."
        )
    kept = sorted({token for token in special if token is not None})
    return partial(with_unknown_tokens, unknown=unknown, special=kept)


def _without(inputs: Inputs, draw: Callable[[int], Tensor]) -> tuple[Inputs, Edit | None]:
    """Cut off the tokens at `draw(length)`, indices among an example's tokens without padding."""
    mask = inputs.get("attention_mask")
    real = mask if mask is not None else torch.ones_like(inputs["input_ids"])
    cut = torch.zeros(real.shape, dtype=torch.bool)
    for row, example in zip(cut, real.cpu(), strict=True):
        places = example.nonzero().flatten()
        row[places[draw(len(places))]] = True
    cut = cut.to(real.device)

    def edit(states: Tensor) -> Tensor:
        padded = F.pad(cut, (0, states.shape[1] - cut.shape[1]))  # Longformer fills up its windows
        return states.masked_fill(padded[..., None], 0)

    return inputs if mask is None else {**inputs, "attention_mask": mask.masked_fill(cut, 0)}, edit
