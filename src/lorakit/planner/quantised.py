"""A quantised base by its formula: what its linear weights take, and what reading one takes.

Quantised are the frozen weights of linear layers, as transformers does it with bitsandbytes. What
trains, embeddings, the output embeddings, heads, norms, biases and experts that are one tensor stay
as they are. A product reads a copy in the type of the weight, which lives as long as the product,
in the forward and in the backward. bitsandbytes' forward of int8 makes no copy: it multiplies in
int8 (Dettmers et al., arXiv 2208.07339, 3.1), into an int32 for each output of each token. That is
planned as the copy, and is more than it where tokens are more than half of the inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from torch import Tensor, nn

from lorakit.injection.selection.vocabulary import vocabulary_modules
from lorakit.models.fp32_head import head_modules
from lorakit.planner.recording import BASE, Event, LinearWeight
from lorakit.surgery.split import is_conv1d

Quantised = Literal["int8", "nf4", "nf4_double"]
_BLOCK, _SECOND_BLOCK = 64, 256
_CODE = 4 * 16
"""Bytes of the 16 values that 4 bits stand for, in float32."""
_SECOND_CODE = 4 * 256


@dataclass(frozen=True)
class Quantisation:
    """A way to store a weight."""

    stored: Callable[[LinearWeight], int]
    """Its bytes."""
    unpacked: Callable[[LinearWeight], int] = lambda _: 0
    """Bytes of what reading it takes beside the copy."""


def _int8(weight: LinearWeight) -> int:
    """A byte a parameter, and a float32 for each output. Dettmers et al., arXiv 2208.07339, 3.1."""
    return weight.parameters + 4 * weight.outputs


def _nf4(weight: LinearWeight) -> int:
    """Half a byte a parameter, and a float32 for 64. Dettmers et al., arXiv 2305.14314, 3."""
    return _half(weight.parameters) + 4 * _scales(weight) + _CODE


def _nf4_double(weight: LinearWeight) -> int:
    """The float32 for 64 parameters are a byte each, and a float32 for 256 of them and a mean."""
    seconds = 4 * -(-_scales(weight) // _SECOND_BLOCK)
    return _half(weight.parameters) + _scales(weight) + seconds + _CODE + _SECOND_CODE + 4


def _half(parameters: int) -> int:
    return -(-parameters // 2)


def _scales(weight: LinearWeight) -> int:
    return -(-weight.parameters // _BLOCK)


QUANTISATIONS: dict[Quantised, Quantisation] = {
    "int8": Quantisation(_int8),
    "nf4": Quantisation(_nf4),
    "nf4_double": Quantisation(_nf4_double, lambda weight: 4 * _scales(weight)),
}
"""By name, the most bytes first; bitsandbytes' formats."""


def linear_weights(model: Any) -> dict[nn.Parameter, int]:
    """The weights of a plain model that would be quantised, each with its outputs."""
    kept = set(vocabulary_modules(model).values())
    kept |= {inner for head in head_modules(model) for inner in head.modules()}
    found = {}
    for module in model.modules():
        if module not in kept and (type(module) is nn.Linear or is_conv1d(module)):
            found[module.weight] = module.weight.shape[1 if is_conv1d(module) else 0]
    return found


def quantisable(weights: Mapping[nn.Parameter, int]) -> dict[Tensor, LinearWeight]:
    """Those of the `linear_weights` that are frozen in the prepared model."""
    frozen = ((weight, outputs) for weight, outputs in weights.items() if not weight.requires_grad)
    return {
        weight: LinearWeight(weight.numel(), outputs, weight.nbytes) for weight, outputs in frozen
    }


def quantise(events: Sequence[Event], name: Quantised | None) -> Sequence[Event]:
    """The events of a step whose quantisable weights are stored in this way; None: as they are."""
    if name is None:
        return events
    way, blocks = QUANTISATIONS[name], {}
    for block in {event.block for event in events}:
        if (weight := block.weight) is not None:
            is_stored = block.category == BASE
            size = way.stored(weight) if is_stored else weight.nbytes + way.unpacked(weight)
            blocks[block] = replace(block, nbytes=size)
    return [replace(event, block=blocks.get(event.block, event.block)) for event in events]
