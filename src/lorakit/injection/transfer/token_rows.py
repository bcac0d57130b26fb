"""Trainable tokens between a file and a model: weights that are tied, tables that PEFT copies.

A file has the rows of the input embeddings; in a model the head may be tied to them. After resizing
the vocabulary PEFT also stores whole tables: all of their rows are the base's but the new ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.injection import trained_copies
from lorakit.injection.selection.naming import within_any
from lorakit.injection.selection.token_rows import tied_to_embeddings
from lorakit.injection.selection.vocabulary import new_rows, vocabulary_modules
from lorakit.injection.transfer.trained_tensors import saved_modules
from lorakit.variants import ModuleAdapter, RowsSite
from lorakit.variants.trainable_tokens import VALUES, rows_of, rows_spec

Adapters = dict[str, ModuleAdapter]


def with_tied_rows(model: nn.Module, adapters: Mapping[str, ModuleAdapter]) -> Adapters:
    """The adapters, with those of rows also for the modules that are tied to theirs."""
    tied = tied_to_embeddings(model, rows_of(adapters))
    return {**{name: adapters[source] for name, source in tied.items()}, **adapters}


def contrary_rows(model: nn.Module, adapters: Mapping[str, ModuleAdapter]) -> list[tuple[str, str]]:
    """(name, what is wrong) of modules with values of their own for rows that are tied here."""
    rows = rows_of(adapters)
    return [
        (
            name,
            f"has other rows than {source}, to which it is tied in this model; load the base with "
            "tie_word_embeddings=False",
        )
        for name, source in tied_to_embeddings(model, rows).items()
        if name in rows and rows[name] == rows[source]
        if not torch.equal(adapters[name].tensors[VALUES], adapters[source].tensors[VALUES])
    ]


def without_tables(model: nn.Module, bundle: AdapterBundle) -> AdapterBundle:
    """The bundle without tables of the vocabulary whose other rows are the model's own.

    Rows that the checkpoint lacks, and the adapter as well, become rows of the adapter.
    """
    adapters, trained = dict(bundle.adapters), dict(bundle.trained)
    copied = set(trained_copies.names(model))
    saved = set(saved_modules(dict(model.named_modules(remove_duplicate=False)), bundle))
    modules = {n: m for n, m in vocabulary_modules(model).items() if f"{n}.weight" in trained}
    new = new_rows(model) if modules else {}
    for owner, module in modules.items():
        table = trained[f"{owner}.weight"]
        if f"{owner}.weight" in copied or within_any(owner, saved):
            continue
        source = tied_to_embeddings(model, rows_of(adapters)).get(owner, owner)
        own = adapters.get(owner, adapters.get(source))
        free = _other_rows(module._parameters["weight"], table, own)
        if free is None or (free and not _can_be_rows(new.get(owner), own, free)):
            continue
        if free:
            adapters[owner if owner in adapters else source] = _extended(own, table, free)
        del trained[f"{owner}.weight"]
    return replace(bundle, adapters=adapters, trained=trained)


def _can_be_rows(new: range | None, own: ModuleAdapter | None, free: list[int]) -> bool:
    """Whether these rows are new in the model, and may stand beside the module's adapter."""
    beside_rows = own is None or isinstance(own.site, RowsSite)
    return beside_rows and new is not None and free[0] in new


def _other_rows(
    weight: Tensor | None, value: Tensor, own: ModuleAdapter | None
) -> list[int] | None:
    """The rows that differ and are not the adapter's; None for tables of different shapes."""
    if weight is None or weight.is_meta or weight.shape != value.shape or weight.ndim != 2:
        return None
    differs = (weight.detach() != value.to(weight.device, weight.dtype)).any(1)
    replaced = own.site.rows if own is not None and isinstance(own.site, RowsSite) else ()
    return sorted(set(differs.nonzero().flatten().tolist()) - set(replaced))


def _extended(own: ModuleAdapter | None, table: Tensor, free: list[int]) -> ModuleAdapter:
    """The adapter with these rows of the table as well."""
    values = {row: table[row] for row in free}
    if own is not None:
        assert isinstance(own.site, RowsSite)
        values |= dict(zip(own.site.rows, own.tensors[VALUES], strict=True))
    rows = tuple(sorted(values))
    height, width = table.shape
    tensors = {VALUES: torch.stack([values[row] for row in rows])}
    return ModuleAdapter(rows_spec(rows), tensors, RowsSite(width, height, rows=rows))
