"""Trainable tokens in PEFT's files.

    rows of a module            + .token_adapter.trainable_tokens_delta (N, D)
    its weight, after resizing  + .token_adapter.base_layer.weight (V, D)

The config lists the row numbers, in the order of the tensor: for the input embeddings, or by module
under `trainable_token_indices`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import type_problem
from lorakit.checkpoint.formats.peft.endings import Endings
from lorakit.checkpoint.formats.peft.layout import PREFIX
from lorakit.checkpoint.formats.raw_keys import renamed
from lorakit.variants import ModuleAdapter, RowsSite
from lorakit.variants.trainable_tokens import VALUES, rows_of, rows_spec

FIELD = "trainable_token_indices"
_CHILD = ".token_adapter"
ROWS = f"{_CHILD}.{VALUES}"


def split_rows(adapters: Mapping[str, ModuleAdapter]) -> tuple[dict[str, ModuleAdapter], ...]:
    """The adapters of rows, and all others."""
    rows = rows_of(adapters)
    others = {name: x for name, x in adapters.items() if name not in rows}
    return {name: adapters[name] for name in rows}, others


def split_tensors(
    tensors: Mapping[str, Tensor],
) -> tuple[dict[str, Tensor], dict[str, Tensor], list[str]]:
    """The rows by module, all other tensors, and which of either would get the same name.

    Whole weights get the module's own name.
    """
    rows = {key: tensor for key, tensor in tensors.items() if key.endswith(ROWS)}
    rest = {key: tensor for key, tensor in tensors.items() if key not in rows}
    modules, twice = renamed(
        rows, {key: key.removesuffix(ROWS).removeprefix(PREFIX) for key in rows}
    )
    plain, more = renamed(rest, {key: key.replace(f"{_CHILD}.base_layer.", ".") for key in rest})
    return modules, plain, twice + more


def decode_rows(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, ModuleAdapter], list[str]]:
    """The adapters of rows by module, and contradictions between tensors and config."""
    given = config.get(FIELD)
    rows_of = _by_module(given) if isinstance(given, dict) else lambda _: given
    adapters: dict[str, ModuleAdapter] = {}
    problems: list[str] = []
    for name, values in tensors.items():
        problems += filter(None, [type_problem(name + ROWS, values)])
        rows = rows_of(name)
        if not rows:
            problems.append(f"{name}{ROWS} is unexpected: {FIELD} of the config does not list it")
        elif values.ndim != 2 or values.shape[0] != len(rows):
            shape = tuple(values.shape)
            problems.append(f"{name}: size mismatch: {FIELD} lists {len(rows)} tokens, got {shape}")
        else:
            adapters[name] = _adapter(values, rows)
    if given and not tensors:
        problems.append(f"{FIELD} lists tokens, but the file has no rows of them")
    return adapters, problems


def _by_module(given: Mapping[str, list[int]]) -> Callable[[str], list[int] | None]:
    """Which rows the config lists for a module: those of the first text that its name ends in."""
    endings, place = Endings(given), {text: n for n, text in enumerate(given)}

    def rows(name: str) -> list[int] | None:
        first = min(endings.of(name), key=place.__getitem__, default=None)
        return None if first is None else given[first]

    return rows


def _adapter(values: Tensor, rows: list[int]) -> ModuleAdapter:
    order = sorted(range(len(rows)), key=rows.__getitem__)
    ascending = tuple(rows[place] for place in order)
    site = RowsSite(values.shape[1], ascending[-1] + 1, rows=ascending)
    return ModuleAdapter(rows_spec(ascending), {VALUES: values[order]}, site)


def outer_names(adapters: Iterable[str]) -> dict[str, str]:
    """The names that hold the base layers of these modules."""
    return {name: name + _CHILD for name in adapters}


def encode_rows(
    adapters: Mapping[str, ModuleAdapter],
) -> tuple[dict[str, Tensor], dict[str, list[int]] | None]:
    """The tensors by key, and the value of the config's field."""
    tensors = {f"{PREFIX}{name}{ROWS}": x.tensors[VALUES] for name, x in adapters.items()}
    return tensors, {name: list(rows) for name, rows in rows_of(adapters).items()} or None
