"""The border of a backbone: its inputs become longer by the virtual tokens, its outputs shorter.

Virtual tokens get ids of their own, which no vocabulary has (`virtual_embedding` reads them), so
what a model makes of ids, such as RoBERTa's positions, holds for them as for others. In generation
the first step puts them into the cache; a later step finds them there, and only its mask and its
positions are those of the longer sequence.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from lorakit.errors import StateError
from lorakit.methods.prefixes.layout import Layout, layout, real_tokens
from lorakit.methods.prefixes.state import Activations, here
from lorakit.surgery.disabling import Disableable

_PASSED = frozenset({"encoder_hidden_states", "encoder_attention_mask"})
"""Tensors whose length is not that of the inputs."""


class Insertion(nn.Module):
    """How many virtual tokens a backbone has, and what it does with them."""

    ids: Tensor

    def __init__(
        self,
        prefix: int,
        infix: int,
        ids: Sequence[int],
        arguments: Sequence[str],
        *,
        is_causal: bool,
        drops: bool,
        limit: int | None,
        rows: nn.Module | None = None,
        layers: int = 0,
    ) -> None:
        super().__init__()
        self.prefix_length, self.infix_length = prefix, infix
        self.register_buffer("ids", torch.tensor(ids), persistent=False)
        """The ids of the virtual tokens (V,)."""
        self.arguments = tuple(arguments)
        """The parameters of the backbone's forward, in their order."""
        self.is_causal, self.drops = is_causal, drops
        """Whether the outputs of virtual tokens are dropped; a decoder reads an encoder's."""
        self.limit = limit
        """How many positions the backbone has a row for; None: it has no table of them."""
        self.layers = layers
        """How many layers have rows of their own."""
        if rows is not None:
            self.rows = rows

    @property
    def count(self) -> int:
        """How many virtual tokens there are."""
        return self.prefix_length + self.infix_length

    def activations(self, place: Layout | None) -> Activations | None:
        """What the blocks read; None where they take what comes."""
        if not self.layers:
            return None
        return Activations(self.rows().unflatten(1, (self.layers, -1)), place)


class WithVirtualTokens(Disableable):
    """A mixin in front of a backbone's class.

    It is a `__call__`, so that the signature of `forward`, which transformers reads, stays.
    """

    prefix: Insertion

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self.is_off():
            return super().__call__(*args, **kwargs)
        given = dict(zip(self.prefix.arguments, args, strict=False)) | kwargs
        given = {name: value for name, value in given.items() if value is not None}
        cache = given.get("past_key_values")
        if cache is not None and cache.get_seq_length() > 0:
            return self._run(_continued(self, self.prefix, given, cache.get_seq_length()), None)
        place = _layout(self.prefix, given)
        wanted = given.pop("return_dict", getattr(self.config, "return_dict", True))
        longer = _lengthened(self, self.prefix, given, place)
        output = self._run({**longer, "return_dict": True}, place)
        if self.prefix.drops:
            _shorten(self, output, place)
        return output if wanted else output.to_tuple()

    def _run(self, given: Mapping[str, Any], place: Layout | None) -> Any:
        before, here.activations = here.activations, self.prefix.activations(place)
        try:
            return super().__call__(**given)
        finally:
            here.activations = before


def _layout(tokens: Insertion, given: Mapping[str, Any]) -> Layout:
    inputs = given.get("input_ids", given.get("inputs_embeds"))
    mask = given.get("attention_mask")
    _require_plain(given, inputs, mask)
    rows, length = inputs.shape[:2]
    if tokens.limit is not None and length + tokens.count > tokens.limit:
        raise StateError(
            f"The inputs are longer than {tokens.limit - tokens.count} tokens: with "
            f"{tokens.count} virtual ones there are {length + tokens.count}, and the model has "
            f"{tokens.limit} positions. Truncate the inputs."
        )
    if mask is None:
        starts = torch.zeros(rows, dtype=torch.long, device=inputs.device)
        ends = starts + length
    else:
        starts, ends = real_tokens(mask)
    said = here.prompt.ends if tokens.is_causal and here.prompt is not None else None
    if said is not None:
        ends = _prompt_ends(said, tokens, starts, ends, length)
    return layout(tokens.prefix_length, tokens.infix_length, starts, ends, length, tokens.is_causal)


def _prompt_ends(
    said: Tensor | int, tokens: Insertion, starts: Tensor, ends: Tensor, length: int
) -> Tensor:
    if isinstance(said, Tensor):
        return torch.maximum(said, starts)  # padding may have labels
    if said > length and (tokens.infix_length or (starts == length).any()):
        raise StateError(
            "Virtual tokens stand before a prompt, which may begin behind padding, and behind a "
            "whole one; leave prefill_chunk_size out, which cuts it."
        )
    return torch.full_like(ends, min(said, length))


def _require_plain(given: Mapping[str, Any], inputs: Any, mask: Any) -> None:
    """Raise StateError for inputs in which virtual tokens have no clear place."""
    if not isinstance(inputs, Tensor):
        raise StateError("Virtual tokens need input_ids or inputs_embeds; the model got neither.")
    if mask is not None and (not isinstance(mask, Tensor) or mask.shape != inputs.shape[:2]):
        raise StateError(
            "Virtual tokens need an attention mask with one value a token. Masks of more "
            "dimensions, as a static cache makes them, are not extended; use the dynamic cache."
        )
    known = {"input_ids", "inputs_embeds", "attention_mask", *_SPREAD, *_PASSED}
    unknown = [
        name
        for name, value in given.items()
        if name not in known and isinstance(value, Tensor) and value.ndim > 1
    ]
    odd = [name for name in _SPREAD if name in given and given[name].ndim != 2]
    if unknown or odd:
        names = ", ".join([*unknown, *odd])
        raise StateError(f"Virtual tokens have no values for {names}, which the model was given.")


def _lengthened(
    backbone: Any, tokens: Insertion, given: Mapping[str, Any], place: Layout
) -> dict[str, Any]:
    """The arguments of the longer sequence."""
    inputs = given.get("input_ids", given.get("inputs_embeds"))
    assert inputs is not None
    ids_BV = tokens.ids.to(inputs.device).expand(len(inputs), -1)
    longer = dict(given)
    if "input_ids" in given:
        longer["input_ids"] = place.spread(inputs, ids_BV)
    else:
        longer["inputs_embeds"] = place.spread(inputs, backbone.get_input_embeddings()(ids_BV))
    if "attention_mask" in given:
        mask = given["attention_mask"]
        longer["attention_mask"] = place.spread(mask, torch.ones_like(ids_BV))
    for name, spread in _SPREAD.items():
        if name in given:
            longer[name] = spread(place, given[name].expand(len(inputs), -1))
    return longer


_SPREAD = {"position_ids": Layout.positions, "token_type_ids": Layout.types}
"""Arguments with one value a token, and what virtual tokens have there."""


def _continued(
    backbone: nn.Module, tokens: Insertion, given: Mapping[str, Any], cached: int
) -> dict[str, Any]:
    """The arguments of a step whose cache has the virtual tokens."""
    inputs = given.get("input_ids", given.get("inputs_embeds"))
    mask = given.get("attention_mask")
    longer = dict(given)
    if mask is not None:
        expected = cached + inputs.shape[1] - tokens.count if inputs is not None else -1
        if not isinstance(mask, Tensor) or mask.ndim != 2 or mask.shape[1] != expected:
            raise StateError(
                f"The cache has {cached} positions, {tokens.count} of them should be of virtual "
                "tokens, and the attention mask does not fit that. Begin with an empty dynamic "
                f"cache that {type(backbone).__name__} fills itself."
            )
        if tokens.infix_length and (mask[:, 1:] < mask[:, :-1]).any():
            raise StateError("With an infix, prompts are padded on the left to be continued.")
        starts, ends = real_tokens(mask)
        place = layout(tokens.prefix_length, 0, starts, ends, mask.shape[1], tokens.is_causal)
        before, after = (
            mask.new_ones(len(mask), n) for n in (tokens.prefix_length, tokens.infix_length)
        )
        longer["attention_mask"] = torch.cat([place.spread(mask, before), after], 1)
    if "position_ids" in given:
        longer["position_ids"] = given["position_ids"] + tokens.count
    return longer


def _shorten(backbone: Any, output: Any, place: Layout) -> None:
    """Leave the outputs of the tokens that the caller knows."""
    found, wanted = output.last_hidden_state.shape[1], place.length
    if found != wanted:
        raise StateError(
            f"{type(backbone).__name__} gives {found} outputs for {wanted} tokens; with virtual "
            "tokens it is not known which are whose."
        )
    output.last_hidden_state = place.outputs(output.last_hidden_state)
    if output.get("hidden_states") is not None:
        output.hidden_states = tuple(place.outputs(states) for states in output.hidden_states)
    if output.get("pooler_output") is not None:
        output["pooler_output"] = _pooled(backbone, output.last_hidden_state)


def _pooled(backbone: Any, states: Tensor) -> Tensor:
    """What the backbone's pooler makes of the tokens that the caller knows."""
    pooler = getattr(backbone, "pooler", None)
    if pooler is None:
        raise StateError(f"{type(backbone).__name__} pools its outputs in a way that is not known.")
    if isinstance(pooler, nn.Linear):  # ALBERT's and BigBird's
        names = ("pooler_activation", "activation")
        activation = next(getattr(backbone, name) for name in names if hasattr(backbone, name))
        return activation(pooler(states[:, 0]))  # type: ignore[no-any-return]
    return pooler(states)  # type: ignore[no-any-return]
