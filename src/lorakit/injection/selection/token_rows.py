"""`trainable_token_indices`: the rows of the vocabulary that train, and where they stand.

A list is for the input embeddings, a dict names modules. What is tied to the input embeddings, such
as a head, has the same rows, and they stay one: as in PEFT, unless the config gives it rows of its
own.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import cast

from torch import nn

from lorakit.config import LoraConfig
from lorakit.errors import SUGGESTIONS, suggest
from lorakit.functional.token_rows import Rows
from lorakit.injection.selection.naming import names_by_suffix, within_any
from lorakit.injection.selection.selected import Target
from lorakit.injection.selection.vocabulary import input_embeddings
from lorakit.layers import conversion, refusals
from lorakit.layers.base import AdapterLayer
from lorakit.layers.readers import reader_problem
from lorakit.surgery.ties import storage_key
from lorakit.variants import RowsSite
from lorakit.variants.trainable_tokens import rows_spec

Problems = list[tuple[str, str]]
"""(name, what is wrong with it) pairs."""


def token_targets(
    model: nn.Module, config: LoraConfig, adapted: Collection[str], saved: Collection[str]
) -> tuple[list[Target], Problems]:
    """The modules whose rows the config trains, and what is wrong with them.

    `adapted` are the names of the targets of LoRA, `saved` those of `modules_to_save`.
    """
    rows, problems = token_modules(model, config)
    adapted, saved, targets = set(adapted), set(saved), []
    for name, own in rows.items():
        module = model.get_submodule(name)
        reason = rows_refusal(model, name) or _twice(name, adapted, saved)
        site = None if reason else rows_site(module, own)
        reason = reason or (site.rank_problem(len(own)) if site else None)
        if reason is not None:
            problems.append((name, reason))
        elif site is not None:
            targets.append(Target(name, module, rows_spec(own, config.merge_weights), site))
    return targets, problems


def token_modules(model: nn.Module, config: LoraConfig) -> tuple[dict[str, Rows], Problems]:
    """The rows to train by module, tied modules included, and names that are not found."""
    given = config.trainable_token_indices
    if given is None:
        return {}, []
    if isinstance(given, Mapping):
        found, problems = _by_name(model, given)
    elif (name := _name_of_embeddings(model)) is not None:
        found, problems = {name: cast(Rows, given)}, []
    else:
        text = (
            f"is a list, and {type(model).__name__} does not say which its input embeddings "
            "are; name them: {module: tokens}"
        )
        return {}, [("trainable_token_indices", text)]
    tied = tied_to_embeddings(model, found)
    return {**{name: found[source] for name, source in tied.items()}, **found}, problems


def _by_name(
    model: nn.Module, given: Mapping[str, Iterable[int]]
) -> tuple[dict[str, Rows], Problems]:
    """The rows by module, and names that match none; of two that match one the last counts."""
    names = [name for name, _ in model.named_modules() if name]
    hits, leaves = names_by_suffix(names, given), {name.rpartition(".")[2] for name in names}
    problems = []
    for n, suffix in enumerate(suffix for suffix in given if not hits[suffix]):
        near = suggest(suffix, leaves) if n < SUGGESTIONS else ""
        text = f"names {suffix!r}, which matches no module{near}"
        problems.append(("trainable_token_indices", text))
    return {name: cast(Rows, given[suffix]) for suffix in given for name in hits[suffix]}, problems


def tied_to_embeddings(model: nn.Module, names: Collection[str]) -> dict[str, str]:
    """Modules whose weights are tied to the input embeddings, each with the name of these.

    Empty unless `names` has the input embeddings.
    """
    if not names:
        return {}
    weights = {n: m._parameters.get("weight") for n, m in model.named_modules()}
    source = _name_of_embeddings(model)
    weight = weights.get(source) if source in names else None
    if source is None or weight is None:
        return {}
    place = storage_key(weight)
    tied = [n for n, w in weights.items() if w is not None and storage_key(w) == place]
    return {name: source for name in tied if name != source}


def _name_of_embeddings(model: nn.Module) -> str | None:
    embeddings = input_embeddings(model)
    return next((n for n, m in model.named_modules() if n and m is embeddings), None)


def rows_site(module: nn.Module, rows: Rows) -> RowsSite:
    """The site of these rows in an embedding or a linear layer that `rows_refusal` lets pass."""
    height, width = conversion.base_weight(module).shape
    return RowsSite(width, height, rows=rows)


def rows_refusal(model: nn.Module, name: str) -> str | None:
    """Why rows of this module cannot be trained; None if they can, or are already."""
    module = model.get_submodule(name)
    if isinstance(module, AdapterLayer) and not module.is_shared:
        return None if isinstance(module.site, RowsSite) else "is adapted as a whole"
    if reason := refusals.refusal(module, in_rows=True):
        return reason
    if not isinstance(module, nn.Embedding | nn.Linear):
        kind = type(module).__name__
        return f"has type {kind}; trainable_token_indices is for embeddings and linear heads"
    parent, _, child = name.rpartition(".")
    return reader_problem(model.get_submodule(parent), child)


def _twice(name: str, adapted: Collection[str], saved: Collection[str]) -> str | None:
    if name in adapted:
        return (
            "is in trainable_token_indices, or tied to a module in it, and in target_modules; "
            "leave it out of one of them"
        )
    if within_any(name, saved):
        return (
            "is in trainable_token_indices, or tied to a module in it, and trained in full by "
            "modules_to_save; leave it out of one of them"
        )
    return None
