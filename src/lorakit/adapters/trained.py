"""How a linear layer computes a batch in which adapters train: one product of all rows with the
base, and each adapter's own on its rows, which are brought together first.

An adapter without a row here gets no gradient at all: None, and not zeros, so no optimizer moves
it, by weight decay or momentum either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lorakit.adapters.plans import in_rows, linear_repeats, members_of
from lorakit.functional import dora
from lorakit.functional.dropout import draw_seed
from lorakit.functional.fused import Form
from lorakit.functional.trained_rows import Segment, add_segments, add_to
from lorakit.layers.composition import OwnForward
from lorakit.variants import LinearSite, ModuleAdapter


class Group(NamedTuple):
    """An adapter, or none, and its rows."""

    adapter: ModuleAdapter | None
    rows: Sequence[int]


def is_segmented(module: nn.Module, adapters: Sequence[ModuleAdapter | None]) -> bool:
    """Whether these have the form that `Segments` computes."""
    known = all(adapter is None or in_rows(module, adapter) for adapter in adapters)
    return known and not isinstance(module, OwnForward)


class Segments:
    """The updates of all rows in one operation, `functional.trained_rows`."""

    def __init__(self, place: str, rows: int, module: nn.Module, groups: Sequence[Group]) -> None:
        self._place, self._rows, self._groups = place, rows, groups
        self._module: Any = module
        order = [row for group in groups for row in group.rows]
        self._order = None if order == [*range(rows)] else order

    def __call__(self, input: Tensor) -> Tensor:
        module, (order, segments) = self._module, self._laid_out(input)
        x, weight, bias = _taken(input, order), module.base_weight, module.base_bias
        u = add_segments(x, weight, bias, module.fan_in_fan_out, segments)
        return _given_back(self._scaled(u), order)

    def added(self, input: Tensor, output: Tensor) -> Tensor:
        """The same from the base's output, in operations that each have a gradient of their own."""
        if input.ndim == 1 and self._rows == 1:
            return self.added(input.unsqueeze(0), output.unsqueeze(0)).squeeze(0)
        order, segments = self._laid_out(input)
        u = add_to(_taken(input, order), _taken(output, order), segments)
        return _given_back(self._scaled(u), order)

    @property
    def scales_rows(self) -> bool:
        """Whether a gradient of `added` depends on the base's output."""
        return any(adapter and adapter.variant.scales_rows for adapter, _ in self._groups)

    def _laid_out(self, input: Tensor) -> tuple[Tensor | None, list[Segment]]:
        """The order of the input's rows by groups, None if they have it, and the segments then."""
        # of one adapter for all rows, as by `activate`, there may be any number, none too
        times = len(input) if self._rows == 1 else linear_repeats(self._place, self._rows, input)
        order = None
        if self._order is not None:
            order = torch.tensor(members_of(self._order, times), device=input.device)
        segments, start = [], 0
        for adapter, rows in self._groups:
            stop = start + len(rows) * times
            if adapter is not None:
                segments.append(self._segment(adapter, start, stop))
            start = stop
        return order, segments

    def _segment(self, adapter: ModuleAdapter, start: int, stop: int) -> Segment:
        spec, transposed = adapter.spec, self._module.fan_in_fan_out
        dropout = spec.lora_dropout if self._module.training else 0.0
        parts = adapter.site.slices if isinstance(adapter.site, LinearSite) else None
        form = Form(spec.scaling, dropout, transposed, parts, draw_seed() if dropout else 0)
        return Segment(start, stop, adapter.tensors["lora_A"], adapter.tensors["lora_B"], form)

    def _scaled(self, u: Tensor) -> Tensor:
        """LoRA's own output u of rows in the order of the groups, with the d of each."""
        weight, times = self._module.base_weight, len(u) // self._rows
        offsets = [None if a is None else a.row_offset(weight) for a, _ in self._groups]
        if all(offset is None for offset in offsets):
            return u
        zeros = torch.zeros(u.shape[-1], device=u.device)
        d_KO = torch.stack([zeros if offset is None else offset for offset in offsets])
        counts = torch.tensor([len(g.rows) * times for g in self._groups], device=u.device)
        d_NO = d_KO.to(u.dtype).repeat_interleave(counts, 0, output_size=len(u))
        d = d_NO.view(len(u), *[1] * (u.ndim - 2), -1)
        return dora.apply_magnitude(u, self._module.base_bias, d)


def _taken(tensor: Tensor, order: Tensor | None) -> Tensor:
    return tensor if order is None else tensor[order]


def _given_back(tensor: Tensor, order: Tensor | None) -> Tensor:
    return tensor if order is None else tensor.index_select(0, order.argsort())
