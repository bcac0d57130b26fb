"""What changes in the tensors of a checkpoint that has each expert of a mixture by itself.

The model has all of them in one parameter, whose change is then taken apart: an expert's matrix is
one of the stack, or some rows of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import accumulate

from torch import nn

from lorakit.base_checkpoints import BaseCheckpoint
from lorakit.injection.transfer.stacked_experts import stacked_keys
from lorakit.merging.changes import Adapted, Change, Merger, Placed, Rounding, Terms
from lorakit.variants import LinearSite, ParameterSite


def stacked_changes(
    model: nn.Module,
    checkpoint: BaseCheckpoint,
    converted: Mapping[str, Sequence[str]],
    shapes: Mapping[str, tuple[int, ...]],
    terms: Mapping[str, Terms],
) -> dict[str, tuple[str, Merger]]:
    """(parameter, what is done) for each tensor of the checkpoint that is part of a changed one.

    `converted` has the keys that a parameter is computed from, `shapes` its own, `terms` its
    changes. A parameter that cannot be taken apart has none.
    """
    keys = [key for name, own in converted.items() if name in terms for key in own]
    found: dict[str, tuple[str, Merger]] = {}
    for name, parts in stacked_keys(model, keys).items():
        heights = [checkpoint.tensors[part[0]].shape[0] for part in parts if part]
        stops = list(accumulate(heights))
        stacked = (len(parts[0]), stops[-1], *shapes[name][2:]) if len(stops) == len(parts) else ()
        taken_apart = all(_is_matrices(change) for change, _ in terms.get(name, ()))
        if name not in terms or stacked != shapes[name] or not taken_apart:
            continue
        rounding = Rounding()
        for part, stop, height in zip(parts, stops, heights, strict=True):
            for expert, key in enumerate(part):
                own = [(_part(c, expert, stop - height, stop), w) for c, w in terms[name]]
                found[key] = name, Merger(own, rounding)
    return found


def _is_matrices(change: Change) -> bool:
    if isinstance(change, Adapted):
        site = change.adapter.site
        whole = isinstance(site, ParameterSite) and not site.transposed
        return whole and change.adapter.variant.is_low_rank
    return isinstance(change, Placed)


def _part(change: Change, expert: int, start: int, stop: int) -> Change:
    """The change of the rows [start, stop) of one expert's matrix."""
    if isinstance(change, Placed):
        return Placed(change.value[expert, start:stop])
    assert isinstance(change, Adapted)
    matrix = change.adapter.block(expert, expert + 1)
    assert matrix is not None
    assert matrix.site is not None
    a, b = matrix.tensors["lora_A"], matrix.tensors["lora_B"][start:stop]
    site = LinearSite(matrix.site.in_features, stop - start)
    return replace(change, adapter=matrix.with_factors(a, b, site=site))
