"""Trainable tokens in PEFT's files.

    rows of a module            + .token_adapter.trainable_tokens_delta (N, D)
    its weight, after resizing  + .token_adapter.base_layer.weight (V, D)

The config lists the row numbers, in the order of the tensor: for the input embeddings, or by module
under `trainable_token_indices`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from lorakit.checkpoint.bundle import type_problem
from lorakit.checkpoint.formats.peft.layout import PREFIX
from lorakit.variants import AdapterSpec, ModuleAdapter, RowsSite
from lorakit.variants.trainable_tokens import VALUES, TrainableTokens

FIELD = "trainable_token_indices"
_CHILD = ".token_adapter"
ROWS = f"{_CHILD}.{VALUES}"


def split_rows(adapters: Mapping[str, ModuleAdapter]) -> tuple[dict[str, ModuleAdapter], ...]:
    """The adapters of rows, and all others."""
    rows = {name: x for name, x in adapters.items() if isinstance(x.site, RowsSite)}
    return rows, {name: x for name, x in adapters.items() if name not in rows}


def split_tensors(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The rows by module, and all other tensors, whole weights under the module's own name."""
    rows = {
        key.removesuffix(ROWS).removeprefix(PREFIX): tensor
        for key, tensor in tensors.items()
        if key.endswith(ROWS)
    }
    rest = {
        key.replace(f"{_CHILD}.base_layer.", "."): tensor
        for key, tensor in tensors.items()
        if not key.endswith(ROWS)
    }
    return rows, rest


def decode_rows(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any]
) -> tuple[dict[str, ModuleAdapter], list[str]]:
    """The adapters of rows by module, and contradictions between tensors and config."""
    given = config.get(FIELD)
    adapters: dict[str, ModuleAdapter] = {}
    problems: list[str] = []
    for name, values in tensors.items():
        problems += filter(None, [type_problem(name + ROWS, values)])
        rows = given if not isinstance(given, dict) else _of_module(given, name)
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


def _of_module(given: Mapping[str, Any], name: str) -> list[int] | None:
    return next((rows for suffix, rows in given.items() if name.endswith(suffix)), None)


def _adapter(values: Tensor, rows: list[int]) -> ModuleAdapter:
    order = sorted(range(len(rows)), key=rows.__getitem__)
    ascending = tuple(rows[place] for place in order)
    count, site = len(rows), RowsSite(values.shape[1], max(rows) + 1, rows=ascending)
    spec = AdapterSpec(count, lora_alpha=count, variant=TrainableTokens.name)
    return ModuleAdapter(spec, {VALUES: values[order]}, site)


def outer_names(adapters: Iterable[str]) -> dict[str, str]:
    """The names that hold the base layers of these modules."""
    return {name: name + _CHILD for name in adapters}


def encode_rows(
    adapters: Mapping[str, ModuleAdapter],
) -> tuple[dict[str, Tensor], dict[str, list[int]] | None]:
    """The tensors by key, and the value of the config's field."""
    tensors = {f"{PREFIX}{name}{ROWS}": x.tensors[VALUES] for name, x in adapters.items()}
    sites = {name: x.site for name, x in adapters.items()}
    listed = {n: list(site.rows) for n, site in sites.items() if isinstance(site, RowsSite)}
    return tensors, listed or None
