"""Where a model takes virtual tokens, found by its structure.

The backbone is the innermost module that has the input embeddings and a stack of blocks, and takes
token ids: RobertaModel, GPT2Model, LlamaModel; of an encoder-decoder the encoder.
"""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from lorakit.errors import TargetError
from lorakit.injection.selection.vocabulary import input_embeddings
from lorakit.methods.blocks import Stack, stacks
from lorakit.methods.shared_layers import once

_POSITIONS = ("position_embeddings", "embed_positions", "position_embedding", "wpe")


@dataclass(frozen=True)
class Places:
    """The modules that virtual tokens concern."""

    backbone: nn.Module
    name: str
    """The backbone's."""
    embeddings: nn.Embedding
    decoder: nn.Module | None
    """What reads an encoder's output; None in other models."""
    is_causal: bool
    generates: bool
    """Whether the model is a causal one that completes prompts."""
    limit: int | None
    """How many positions the backbone has a row for; None: it has no table of them."""
    positions: int | None
    """How many tokens it was made for; None: its config does not say it."""


def places(model: nn.Module) -> Places:
    """Where this model takes virtual tokens.

    Raises TargetError for a model that takes none, such as one of images or of sounds.
    """
    decoder = _decoder(model)
    reader: Any = model.get_encoder() if decoder is not None else model  # type: ignore[operator]
    backbone, embeddings = _backbone(model, reader)
    is_causal = decoder is None and _is_causal(backbone)
    limit = _limit(backbone, embeddings)
    can_generate = getattr(model, "can_generate", None)
    return Places(
        backbone,
        next(name for name, module in model.named_modules() if module is backbone),
        embeddings,
        decoder,
        is_causal,
        is_causal and model is not backbone and can_generate is not None and can_generate(),
        limit,
        limit if limit is not None else _stated(backbone),
    )


def stack_of(model: nn.Module, found: Places, layers_pattern: str | None) -> Stack:
    """The blocks of the backbone, each once; raises TargetError if none or several are known."""
    own = stacks(found.backbone, layers_pattern)
    if len(own) != 1:
        names = ", ".join(stack.name for stack in own)
        raise TargetError(
            f"{type(model).__name__} has several stacks of layers ({names}); name one of them in "
            "layers_pattern."
        )
    return replace(own[0], blocks=tuple(once(own[0].blocks)))


def arguments(module: nn.Module) -> list[str]:
    """The parameters of a module's forward, in their order."""
    return list(inspect.signature(module.forward).parameters)


def _decoder(model: nn.Module) -> nn.Module | None:
    """The decoder of an encoder-decoder; None for other models."""
    if not getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        return None
    parts: Any = model
    encoder, decoder = parts.get_encoder(), parts.get_decoder()
    separate = isinstance(decoder, nn.Module) and decoder is not encoder and decoder is not model
    return decoder if separate else None


def _backbone(model: nn.Module, reader: nn.Module) -> tuple[nn.Module, nn.Embedding]:
    """The innermost module of `reader` with embeddings and blocks that takes ids, and those."""
    fit = {
        module: embeddings
        for module in reader.modules()
        if isinstance(embeddings := input_embeddings(module), nn.Embedding)
        and any(part is embeddings for part in module.modules())
        and "input_ids" in arguments(module)
        and _has_blocks(module)
    }
    innermost = [m for m in fit if not any(part in fit for part in m.modules() if part is not m)]
    if not innermost:
        raise _refusal(model, "has no module with embeddings of tokens and layers that takes ids")
    if len(innermost) > 1:
        names = ", ".join(type(module).__name__ for module in innermost)
        raise _refusal(model, f"reads tokens in several modules ({names})")
    return innermost[0], fit[innermost[0]]


def _has_blocks(module: nn.Module) -> bool:
    try:
        return bool(stacks(module))
    except TargetError:
        return False


def _is_causal(backbone: nn.Module) -> bool:
    """Whether a token attends only to those before it, as the attention says; where none says
    it, models that keep a cache do."""
    said = [module.is_causal for module in backbone.modules() if hasattr(module, "is_causal")]
    return any(said) if said else "past_key_values" in arguments(backbone)


def _limit(backbone: Any, embeddings: nn.Module) -> int | None:
    tables = [
        module
        for name, module in backbone.named_modules()
        if name.endswith(_POSITIONS) and isinstance(module, nn.Embedding)
    ]
    stated = _stated(backbone)
    used = [t.num_embeddings - _first_row(t) for t in tables if t is not embeddings]
    return min([*used, *([stated] if stated else [])]) if used else None


def _stated(backbone: Any) -> int | None:
    stated = getattr(backbone.config, "max_position_embeddings", None)
    return stated if stated is not None and stated > 0 else None  # XLNet says -1 for any number


def _first_row(table: nn.Embedding) -> int:
    """The row of the first position: RoBERTa's begin behind that of padding."""
    return 0 if table.padding_idx is None else table.padding_idx + 1


def _refusal(model: nn.Module, why: str) -> TargetError:
    return TargetError(
        f"{type(model).__name__} {why}, so there is no place for virtual tokens in it; use another "
        "method, such as lora."
    )
