"""Hashes of what a run depends on: rows, tokenizer, base."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

from torch import nn

from lorakit.digests import tensors_digest, values_digest
from lorakit.injection.selection.naming import within
from lorakit.runs.origin import Facts, row_facts, rows_digest
from lorakit.tasks.base import Task

_VOLATILE = ("transformers_version",)
"""Entries of a config that say who wrote it."""


def origin_of(
    tables: Mapping[str, Any],
    encoded: Mapping[str, Any],
    task: Task,
    tokenizer: Any,
    model: nn.Module,
    head: Sequence[str],
) -> Facts:
    """What a run on these tables begins with; `model` is the base, `head` what is new in it."""
    tokens = {f"{name}: tokens and labels": rows_digest(rows) for name, rows in encoded.items()}
    return {
        "data": {**row_facts(tables, task.known_columns), **tokens},
        "task": json.loads(json.dumps({"name": task.name, **asdict(task)}, default=str)),
        "tokenizer": _tokenizer_facts(tokenizer),
        "config": _config_facts(model),
        "base weights": weight_digests(model, head),
    }


def weight_digests(model: nn.Module, but: Sequence[str] = ()) -> dict[str, str]:
    """A digest of each tensor of the model's state that is in none of these modules."""
    state = {
        name: {name: tensor}
        for name, tensor in model.state_dict().items()
        if not any(within(name, module) for module in but)
    }
    with ThreadPoolExecutor() as threads:  # hashing lets other threads run
        return dict(zip(state, threads.map(tensors_digest, state.values()), strict=True))


def _tokenizer_facts(tokenizer: Any) -> dict[str, Any]:
    """What holds across releases of tokenizers; how it splits texts shows in the rows' tokens."""
    return {
        "vocabulary": values_digest([tokenizer.get_vocab()]),
        "special tokens": values_digest([tokenizer.special_tokens_map]),
        "chat template": values_digest([tokenizer.chat_template]),
    }


def _config_facts(model: Any) -> dict[str, Any]:
    config = json.loads(model.config.to_json_string(use_diff=False))
    return {
        name: value
        for name, value in config.items()
        if name not in _VOLATILE and not name.startswith("_")
    }
