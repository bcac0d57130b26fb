"""The vocabulary of a base, made as large as that of an adapter.

The adapter's tables and rows say how large it was, else its tokenizer does. Rows that the base
lacks are those of the file, where it has whole tables as PEFT's have after resizing, and else the
mean of the base's rows, where transformers lets new tokens start.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.late_names import in_model_names
from lorakit.injection.selection.vocabulary import height, input_embeddings, vocabulary_modules
from lorakit.variants import RowsSite


def fit_vocabulary(model: Any, bundle: AdapterBundle, tokenizer: Any = None) -> None:
    """Resize the vocabulary of a base that was just loaded, as the adapter and its tokenizer say.

    Files that contradict themselves are left to `load`, which lists what does not fit.
    """
    bundle, _ = in_model_names(bundle, (name for name, _ in model.named_modules()))
    embeddings, size = input_embeddings(model), new_size(model, bundle, tokenizer)
    if embeddings is None or size is None:
        return
    before = height(embeddings)
    resize(model, size)
    with torch.no_grad():
        for name, module in vocabulary_modules(model).items():
            table, weight = bundle.trained.get(f"{name}.weight"), module._parameters["weight"]
            if table is not None and weight is not None and table.shape == weight.shape:
                weight[before:] = table[before:]


def resize(model: Any, size: int) -> None:
    """`resize_token_embeddings`, with the same new rows each time."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model.resize_token_embeddings(size)


def new_size(model: nn.Module, bundle: AdapterBundle, tokenizer: Any) -> int | None:
    """The size that the vocabulary must be given for the adapter; None if it fits as it is."""
    embeddings = input_embeddings(model)
    size = None if embeddings is None else _size(model, bundle, tokenizer)
    return None if embeddings is None or size == height(embeddings) else size


def _size(model: nn.Module, bundle: AdapterBundle, tokenizer: Any) -> int | None:
    """The size that the files say; None if they do not, or contradict themselves."""
    modules = vocabulary_modules(model)
    sites = [bundle.adapters[name].site for name in modules if name in bundle.adapters]
    whole = [site for site in sites if site is not None and not isinstance(site, RowsSite)]
    tables = [
        bundle.trained[key] for name in modules if (key := f"{name}.weight") in bundle.trained
    ]
    exact = {table.shape[0] for table in tables} | {site.weight_shape[0] for site in whole}
    if exact:
        return exact.pop() if len(exact) == 1 else None
    least = [site.rows[-1] + 1 for site in sites if isinstance(site, RowsSite)]
    tokens = [] if tokenizer is None else [len(tokenizer)]
    return max([*least, *tokens, *map(height, modules.values())])
