"""What operations compute and move, whatever their values: floating-point operations and bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

Formula = Callable[..., int]
"""FLOPs of an operation, of its arguments and `out_val`, as torch's table has them."""


class Operation(NamedTuple):
    """One operation; of those that are equal in all of this a step has many."""

    flops: int
    """Multiplications and additions of products, attention and convolutions; else 0."""
    nbytes: int
    """Read and written."""
    drawn: int
    """Random numbers, such as dropout's."""
    dtype: torch.dtype
    """Of what it reads first."""


@dataclass(frozen=True)
class Work:
    """All operations of a step, each as often as it was."""

    operations: Counter[Operation] = field(default_factory=Counter)

    def add(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> None:
        """Count what torch's dispatcher has just computed; not questions such as for a device."""
        if func.namespace != "prim":
            self.operations[_operation(func, args, kwargs, out)] += 1

    @property
    def flops(self) -> int:
        """Floating-point operations of the step."""
        return sum(operation.flops * count for operation, count in self.operations.items())


def tensors(value: Any) -> Iterator[Tensor]:
    """The tensors in what an operation takes or returns."""
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, list | tuple):
        for part in value:
            yield from tensors(part)


def _operation(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], out: Any) -> Operation:
    read = [*tensors(args), *tensors(list(kwargs.values()))]
    written = list(tensors(out))
    name = str(func.overloadpacket)
    formula = formulas().get(name)
    draws = formula is None and torch.Tag.nondeterministic_seeded in func.tags
    return Operation(
        flops=0 if formula is None else formula(*args, **kwargs, out_val=out),
        nbytes=_moved(name, read, written),
        drawn=sum(tensor.numel() for tensor in written) if draws else 0,
        dtype=read[0].dtype if read else torch.get_default_dtype(),
    )


_NO_BYTES = {f"aten.{name}" for name in ("empty", "empty_like", "empty_strided", "new_empty")}
_NO_BYTES |= {"aten.new_empty_strided"}
_FEW_ROWS = {f"aten.{name}" for name in ("embedding", "gather", "index", "index_select")}
"""What reads as much as it returns, and not all of its first argument."""


def _moved(name: str, read: list[Tensor], written: list[Tensor]) -> int:
    if name in _NO_BYTES or (not name.endswith("_") and written and _are_in(written, read)):
        return 0
    if name in _FEW_ROWS:
        return 2 * _bytes(written)
    return _bytes(read) + _bytes(written or read)  # what returns nothing writes what it has read


def _are_in(written: list[Tensor], read: list[Tensor]) -> bool:
    storages = {id(tensor.untyped_storage()) for tensor in read}
    return all(id(tensor.untyped_storage()) in storages for tensor in written)


def _bytes(found: list[Tensor]) -> int:
    """Expanded tensors have as many as are stored."""
    return sum(min(t.numel() * t.itemsize, t.untyped_storage().nbytes()) for t in found)


@cache
def formulas() -> dict[str, Formula]:
    """torch's table by operators' names, with the operators of CPUs and in place that it lacks."""
    known: dict[str, Formula] = {
        str(packet): formula
        for packet, formula in FlopCounterMode(display=False).flop_registry.items()
    }
    flash = "aten._scaled_dot_product_flash_attention"
    return known | {
        "aten.addmm_": known["aten.addmm"],
        "aten.baddbmm_": known["aten.baddbmm"],
        f"{flash}_for_cpu": known[flash],
        f"{flash}_for_cpu_backward": known[f"{flash}_backward"],
        "aten._grouped_mm": _grouped_product,
        "mkldnn._linear_pointwise": _linear,
    }


def _grouped_product(a: Tensor, b: Tensor, *_: Any, **__: Any) -> int:
    """Of rows (T, K) with their expert's (E, K, N): 2 T K N; so of both (K, T) and (T, N)."""
    return 2 * a.numel() * b.shape[-1]


def _linear(x: Tensor, weight: Tensor, *_: Any, **__: Any) -> int:
    """Of x (..., I) with W (O, I)."""
    return 2 * x.numel() * weight.shape[0]
