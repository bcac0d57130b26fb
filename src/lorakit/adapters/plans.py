"""How a module computes a batch whose rows have adapters of their own.

`ByRows` has one product of all rows with the base and one operation for the adapters, and so has
`trained.Segments` where adapters train. `ByGroups` serves what has no such operation (embeddings,
convolutions, heads): the rows of each adapter run together, with its stand-in.

A row of a batch may be several rows of the input, one after the other: the beams of a text, which
`generate` repeats, or the tokens of a row that a module has flattened.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lorakit.adapters import batch
from lorakit.adapters.scopes import HERE
from lorakit.errors import StateError
from lorakit.functional import slices
from lorakit.functional.initialise import adapter_dtype
from lorakit.functional.rows import Pack, Part, gathered, is_segmented, pack, segmented
from lorakit.layers.linear import Linear
from lorakit.layers.weight_mark import WeightMark
from lorakit.variants import LinearSite, ModuleAdapter

if TYPE_CHECKING:
    from lorakit.adapters.choices import Plan


def members_of(rows: Sequence[int], times: int) -> list[int]:
    """The rows of an input that belong to these, of which each has `times`."""
    return [row * times + n for row in rows for n in range(times)]


def repeats(place: str, rows: int, input: Tensor) -> int:
    """`batch.repeats`, in the batch of here and now."""
    return batch.repeats(HERE.get().batch, place, rows, input)


def linear_repeats(place: str, rows: int, input: Tensor) -> int:
    """`repeats` of what a linear layer takes, whose last dimension is not that of rows."""
    if (times := repeats(place, rows, input)) and input.ndim == 1:
        raise StateError(f"{place} has an input of one dimension, which has no rows.")
    return times


class Counted:
    """One adapter for all rows, of which there have to be as many as were named."""

    def __init__(self, place: str, rows: int, plan: Plan) -> None:
        self._place, self._rows, self._plan = place, rows, plan

    def __call__(self, input: Tensor) -> Tensor:
        repeats(self._place, self._rows, input)
        return self._plan(input)


class ByRows:
    """The low-rank updates of all rows in one operation, `functional.rows`."""

    def __init__(
        self, place: str, rows: int, module: nn.Module, make: Callable[[], Sequence[Part]]
    ) -> None:
        self._place, self._rows, self._make = place, rows, make
        self._module: Any = module
        self._begin()

    def _begin(self) -> None:
        self._parts = self._make()
        self._packs: dict[torch.dtype, Pack] = {}
        needs_weight = any(part.d_SO is not None for part in self._parts)
        self._beside = WeightMark.of(self._module.base_weight) if needs_weight else None

    def __call__(self, input: Tensor) -> Tensor:
        y: Tensor = self._module.plain(input, self._module.base_weight)
        return self._added(input, y)

    def write(self, input: Tensor, output: Tensor) -> None:
        """Write the output into that of the base."""
        result = self._added(input, output)
        if result.data_ptr() != output.data_ptr():
            output.copy_(result)

    def _added(self, input: Tensor, y: Tensor) -> Tensor:
        """The output, where y is the base's; without gradients y may be written to."""
        linear_repeats(self._place, self._rows, input)
        if self._beside is not None and not self._beside.matches(self._module.base_weight):
            self._begin()
        bias = self._module.base_bias
        x_NTI = input.reshape(self._rows, -1, input.shape[-1])
        y_NTO = y.view(self._rows, -1, y.shape[-1])
        if is_segmented(x_NTI, y_NTO, self._parts):
            z = segmented(x_NTI, y_NTO, bias, self._parts)
        else:
            z = gathered(x_NTI, y_NTO, bias, self._pack(y.dtype))
        return z.view(y.shape)

    def _pack(self, dtype: torch.dtype) -> Pack:
        """The factors of the rows, made once."""
        found = self._packs.get(dtype)
        if found is None:
            with torch.inference_mode(False), torch.no_grad():
                found = self._packs[dtype] = pack(self._rows, self._parts, dtype)
        return found


class ByGroups:
    """The rows of each adapter together, each group with a plan of its own, or the base's."""

    def __init__(
        self,
        place: str,
        rows: int,
        module: nn.Module,
        groups: Sequence[tuple[Plan | None, Sequence[int]]],
    ) -> None:
        self._place, self._rows, self._groups = place, rows, groups
        self._module: Any = module

    def __call__(self, input: Tensor) -> Tensor:
        times = repeats(self._place, self._rows, input)
        outputs, order = [], []
        for plan, rows in self._groups:
            members = members_of(rows, times)
            part = input[torch.tensor(members, device=input.device)]
            outputs.append(self._module.base_forward(part) if plan is None else plan(part))
            order += members
        places = torch.tensor(order, device=input.device).argsort()
        return torch.cat(outputs).index_select(0, places)


def kind_of(adapter: ModuleAdapter) -> Hashable:
    """What adapters of one `Part` have in common."""
    dtype = next(iter(adapter.tensors.values())).dtype
    return adapter.spec.variant, adapter.spec.r, adapter.site, dtype


Members = Sequence[tuple[ModuleAdapter, Sequence[int]]]
"""Adapters of one kind, each with its rows."""


def in_rows(module: nn.Module, adapter: ModuleAdapter) -> bool:
    """Whether adapters of this kind have a form for all rows at once."""
    return isinstance(module, Linear) and adapter.has_row_form


def rows_part(module: Any, members: Members) -> Part:
    """The `Part` of adapters of one kind, which have one."""
    site = members[0][0].site
    assert isinstance(site, LinearSite)
    rows = [row for _, own in members for row in own]
    slots = [k for k, (_, own) in enumerate(members) for _ in own]
    a, b = ([adapter.tensors[x] for adapter, _ in members] for x in ("lora_A", "lora_B"))
    scales = [adapter.spec.scaling for adapter, _ in members]
    dtype = adapter_dtype(module.base_weight.dtype)
    s = torch.tensor(scales, dtype=dtype, device=a[0].device)
    if site.slices is not None:
        blocks = [slices.as_block(*pair, site.slices) for pair in zip(a, b, strict=True)]
        a, b = ([pair[n] for pair in blocks] for n in range(2))
    with torch.inference_mode(False), torch.no_grad():
        offsets = [adapter.row_offset(module.base_weight) for adapter, _ in members]
    d = [offset for offset in offsets if offset is not None]
    return Part(a, b, s, slots, rows, torch.stack(d) if d else None)
