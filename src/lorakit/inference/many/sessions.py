"""Runs and adapters of one base, opened on one model."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch

from lorakit.adapters import AdapterSet
from lorakit.digests import tensors_digest
from lorakit.errors import ConfigError
from lorakit.inference.description import Description, LoadOptions, describe
from lorakit.inference.many.heads import with_head_of
from lorakit.inference.many.mixing import (
    Described,
    head_height,
    head_settings,
    require_one_base,
    require_one_padding,
)
from lorakit.inference.many.problems import noted
from lorakit.inference.session import Session, on_accelerator, settled
from lorakit.models.dtypes import autocast, compute_in
from lorakit.models.loading import load_for_task, load_tokenizer
from lorakit.models.vocabulary import fit_vocabulary
from lorakit.recipe.data import text_limit
from lorakit.tasks.base import Task
from lorakit.tasks.generation import CausalTask
from lorakit.text import repeated

Sources = Mapping[str, str] | Sequence[tuple[str, str]]
"""Runs or adapters (directory, file or hub id) by name."""
BASE_ALONE = "the base alone"
"""What messages call rows without an adapter."""


def title_of(name: str | None) -> str:
    """What messages call an adapter, or the base alone."""
    return BASE_ALONE if name is None else name


@dataclass(frozen=True)
class Member:
    """One adapter of the model."""

    name: str | None
    """In the set; None: the base alone."""
    session: Session
    """Its own tokenizer and task, on the model of all."""
    generation_config: Any
    """transformers' with its own stop tokens; None of a model that does not generate."""
    height: int | None
    """How many of the model's logits are its own; None: all."""
    digest: str
    """Of its tensors."""

    @property
    def title(self) -> str:
        """What messages call it."""
        return title_of(self.name)


@dataclass(frozen=True)
class Sessions:
    """Adapters on one `model` in evaluation mode, each with its own task."""

    base: str
    """The base model."""
    model: Any
    adapters: AdapterSet
    """The adapters in the model."""
    members: Mapping[str | None, Member]
    """By name; None for the base alone, where that has an answer."""

    @property
    def opened(self) -> Mapping[str | None, Session]:
        """The session of each."""
        return {name: member.session for name, member in self.members.items()}

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Inside, row n of a batch has the adapter names[n], in the dtype of their training."""
        dtype = next(iter(self.members.values())).session.dtype
        with torch.no_grad(), autocast(self.model.device, dtype), self.adapters.rows(names):
            yield


def open_many(
    sources: Sources, options: LoadOptions | None = None, default_task: str | None = None
) -> Sessions:
    """Open runs and adapters of one base, by name, for inference on one model.

    Raises as `read_many` does, and MismatchError for an adapter that does not fit the base.
    """
    options = options or LoadOptions()
    return load_many(read_many(sources, options, default_task), options.check_base)


def read_many(
    sources: Sources, options: LoadOptions | None = None, default_task: str | None = None
) -> Described:
    """What the files of runs and adapters of one base say, by name; no model is loaded.

    `options` hold for each of them, and `default_task` is the task of those that name none. Raises
    ConfigError that lists every one that cannot be opened, or everything by which they cannot share
    a base.
    """
    described = _each(sources, options or LoadOptions(), default_task)
    bases = {(one.base, one.revision) for one in described.values() if one.tokenizer is None}
    of_bases = {base: load_tokenizer(*base) for base in bases}
    tokenizers = {
        name: one.tokenizer or of_bases[one.base, one.revision] for name, one in described.items()
    }
    require_one_base(described, tokenizers)
    return described


def _each(sources: Sources, options: LoadOptions, default_task: str | None) -> Described:
    pairs = [*(sources.items() if isinstance(sources, Mapping) else sources)]
    problems = [f"{name!r} names several adapters" for name in repeated(name for name, _ in pairs)]
    found: dict[str, Description] = {}
    for name, source in pairs:
        with noted(problems, name):
            found[name] = describe(source, options, default_task)
    if problems or not found:
        problems = problems or ["there are none; name one at least"]
        raise ConfigError("These adapters cannot be opened:", problems)
    return found


def load_many(described: Described, check_base: bool = True) -> Sessions:
    """Their base with all of them.

    Raises MismatchError for one that does not fit it, and ConfigError for other padding tokens.
    """
    model, height = _load(described)
    adapters = AdapterSet(model)
    for name, found in described.items():
        adapters.load_bundle(name, with_head_of(found.bundle, height), found.file, check_base)
    with adapters.rows([*described]):
        pass  # what cannot differ from row to row is refused before any row is read
    first = next(iter(described.values()))
    compute_in(model, first.dtype)
    model = on_accelerator(model)
    members: dict[str | None, Member] = {
        name: _member(name, found, model) for name, found in described.items()
    }
    require_one_padding({name: m.session.tokenizer for name, m in members.items()})
    if alone := _base_alone(described):
        members[None] = _member(None, alone, model)
    return Sessions(first.base, model, adapters, members)


def _load(described: Described) -> tuple[Any, int | None]:
    """The base, frozen, with a head as tall as the tallest, and that height."""
    tasks = [found.task for found in described.values()]
    first = next(iter(described.values()))
    height = max((h for task in tasks if (h := head_height(task)) is not None), default=None)
    head = head_settings(first.task) | ({} if height is None else {"num_labels": height})
    provided = set.intersection(*(set(found.bundle.trained) for found in described.values()))
    model, _ = load_for_task(first.base, first.task.auto_class, head, first.revision, provided)
    fit_vocabulary(model, first.bundle, first.tokenizer)
    model.requires_grad_(False)
    return model, height


def _member(name: str | None, described: Description, model: Any) -> Member:
    """The adapter's session; the model keeps its own generation config."""
    own = getattr(model, "generation_config", None)
    model.generation_config = copy.deepcopy(own)
    try:
        session = settled(described, model)
        config = model.generation_config
    finally:
        model.generation_config = own
    bundle = described.bundle
    tensors = {
        f"{module}.{leaf}": tensor
        for module, adapter in bundle.adapters.items()
        for leaf, tensor in adapter.tensors.items()
    }
    digest = tensors_digest({**tensors, **bundle.trained}) if name is not None else BASE_ALONE
    return Member(name, session, config, head_height(described.task), digest)


def _base_alone(described: Described) -> Description | None:
    """The base as one of them, where it writes text and all adapters read rows the same way."""
    first = next(iter(described.values()))
    task = first.task
    alike = all(_reading(found.task) == _reading(task) for found in described.values())
    if not isinstance(task, CausalTask) or not alike:
        return None
    tokenizer = load_tokenizer(first.base, first.revision)
    limit = text_limit(tokenizer, first.base, first.revision)
    task = replace(task, max_length=limit, end_token=None)
    return replace(first, source=first.base, directory=None, tokenizer=None, recipe=None, task=task)


def _reading(task: Task) -> tuple[object, ...]:
    return type(task), task.text, task.label
