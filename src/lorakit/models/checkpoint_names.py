"""How transformers reads the tensors of a checkpoint: which is which tensor of a model.

A checkpoint of a model without a head lacks the prefix that its body has in one with a head, older
releases named tensors otherwise, and some tensors of a model are made of several of a checkpoint,
as the experts of a mixture are. The rules are transformers' own, which `from_pretrained` follows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

from lorakit.errors import MismatchError


@dataclass(frozen=True)
class CheckpointNames:
    """The tensors of a checkpoint and those of a model."""

    of_key: Mapping[str, str]
    """The model's name of each tensor that is there as it is in the model."""
    converted: Mapping[str, tuple[str, ...]]
    """The keys that each other tensor of the model is computed from, by its name there."""
    unknown: tuple[str, ...]
    """The keys that the model has not."""
    spelled: Mapping[str, str]
    """Keys whose prefix is not the model's, and the same with it."""

    @property
    def key_of(self) -> dict[str, str]:
        """The key of each tensor that is there as it is in the model, by the model's name."""
        return {name: key for key, name in self.of_key.items()}


def checkpoint_names(model: Any, keys: Iterable[str]) -> CheckpointNames:
    """Match the keys of a checkpoint with a transformers model, which may be on the meta device.

    Raises MismatchError where two keys stand for one tensor.
    """
    rules = get_model_conversion_mapping(model)
    renamings = [rule for rule in rules if isinstance(rule, WeightRenaming)]
    converters = [rule for rule in rules if isinstance(rule, WeightConverter)]
    state = model.state_dict()
    prefix = model.base_model_prefix or None
    of_key: dict[str, str] = {}
    converted: dict[str, list[str]] = {}
    spelled: dict[str, str] = {}
    unknown = []
    for key in keys:
        name, pattern = rename_source_key(key, renamings, converters, prefix, state)
        if name not in state and key in state:
            name, pattern = key, None
        if name not in state:
            unknown.append(key)
        elif pattern is not None:
            for target in _targets(name, pattern, converters):
                converted.setdefault(target, []).append(key)
        else:
            of_key[key] = name
            if (written := _with_prefix_of(name, key, renamings, prefix)) != key:
                spelled[key] = written
    _require_one_each(of_key)
    made = {name: tuple(parts) for name, parts in converted.items()}
    return CheckpointNames(of_key, made, tuple(unknown), spelled)


def _targets(name: str, pattern: str, converters: list[Any]) -> list[str]:
    """All tensors that the converter of this pattern makes, one of which is `name`."""
    rule = next(rule for rule in converters if pattern in rule.source_patterns)
    here = next((target for target in rule.target_patterns if target in name), None)
    return [name if here is None else name.replace(here, other) for other in rule.target_patterns]


def _with_prefix_of(name: str, key: str, renamings: list[Any], prefix: str | None) -> str:
    """The key with the prefix that the model's tensor has, or without the one that it lacks."""
    if prefix is None or rename_source_key(key, renamings, [])[0] == name:
        return key
    return f"{prefix}.{key}" if name.startswith(f"{prefix}.") else key.removeprefix(f"{prefix}.")


def _require_one_each(of_key: Mapping[str, str]) -> None:
    keys: dict[str, list[str]] = {}
    for key, name in of_key.items():
        keys.setdefault(name, []).append(key)
    problems = [f"{name}: {' and '.join(found)}" for name, found in keys.items() if len(found) > 1]
    if problems:
        raise MismatchError(
            "Several tensors of the checkpoint stand for one of the model:", problems
        )
