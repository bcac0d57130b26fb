"""The adapted modules of a file one by one, and as a table with a row for each kind of layer."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lorakit.checkpoint.bundle import AdapterBundle
from lorakit.text import table
from lorakit.variants import ModuleAdapter, RowsSite

_INDEX = re.compile(r"(?<![^.])\d+(?![^.])")
_MOST_ROWS = 40
_LARGEST = 1e60
"""The largest number of which products and their squares are taken."""


@dataclass(frozen=True)
class LayerSummary:
    """One adapted module."""

    name: str
    r: int
    scaling: float
    norm: float | None
    """||dW||, Frobenius; None where the file alone does not give it, as DoRA's, or it is absurd."""


def layers_of(bundle: AdapterBundle) -> list[LayerSummary]:
    """Those of a bundle, without the rows of a vocabulary."""
    return [
        LayerSummary(name, adapter.spec.r, adapter.spec.scaling, _norm(adapter))
        for name, adapter in bundle.adapters.items()
        if not isinstance(adapter.site, RowsSite)
    ]


def layers_table(layers: Sequence[LayerSummary]) -> list[str]:
    """A row for the modules that differ in the numbers in their names alone."""
    groups: dict[str, list[LayerSummary]] = {}
    for layer in layers:
        groups.setdefault(_INDEX.sub("*", layer.name), []).append(layer)
    rows = [
        (
            name,
            len(group),
            _range(layer.r for layer in group),
            _range(layer.scaling for layer in group),
            _range(layer.norm for layer in group),
        )
        for name, group in groups.items()
    ]
    lines = table(
        [("layers", "modules", "rank", "scale", "norm of the update"), *rows[:_MOST_ROWS]]
    )
    more = len(rows) - _MOST_ROWS
    return [*lines, f"and {more:,} more kinds"] if more > 0 else lines


def _norm(adapter: ModuleAdapter) -> float | None:
    """In float64, since a file may hold numbers whose products float32 has no place for."""
    if adapter.site is None or not adapter.variant.is_low_rank or adapter.is_meta:
        return None
    a, b = (adapter.tensors[name].double() for name in ("lora_A", "lora_B"))
    if max(float(t.abs().max()) for t in (a, b)) > _LARGEST:
        return None
    return adapter.with_factors(a, b).norm()


def _range(values: Iterable[float | None]) -> str:
    known = sorted({value for value in values if value is not None})
    if not known:
        return "unknown"
    first, last = f"{known[0]:.4g}", f"{known[-1]:.4g}"
    return first if first == last else f"{first} to {last}"
