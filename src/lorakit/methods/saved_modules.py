"""Modules that are trained in full with any method: PEFT's `modules_to_save`, a new head.

They are replaced by trainable copies, so the pretrained weights are never written, and `undo` and
`lorakit.disabled` restore them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

from lorakit.config import LoraConfig
from lorakit.errors import TargetError, require, suggest
from lorakit.injection import trained_copies
from lorakit.injection.installation import install
from lorakit.injection.record import require_enabled
from lorakit.injection.selection.naming import ending_in_any, names_by_suffix, within_any
from lorakit.injection.selection.selected import Selection
from lorakit.injection.selection.trained_in_full import newly_initialized
from lorakit.layer_groups import group_layers
from lorakit.surgery.additions import Addition


@dataclass(frozen=True)
class MethodConfig:
    """The settings of every method that keeps the backbone frozen."""

    modules_to_save: Sequence[str] | None = None
    """Modules that are trained in full and saved, by name or dotted suffix; a new head for the task
    is always added."""

    def __post_init__(self) -> None:
        modules = self.modules_to_save
        if modules is None:
            return
        listed = isinstance(modules, list | tuple) and all(isinstance(m, str) for m in modules)
        problem = f"modules_to_save is {modules!r}; it must be a list of names"
        require({problem: listed and all(modules)})
        object.__setattr__(self, "modules_to_save", tuple(modules))


AnyConfig = TypeVar("AnyConfig", bound=MethodConfig)


def with_modules(config: AnyConfig, head: Iterable[str]) -> AnyConfig:
    """The config with these modules added to `modules_to_save`."""
    return replace(config, modules_to_save=joined(config.modules_to_save, head))


def joined(modules: Iterable[str] | None, head: Iterable[str]) -> tuple[str, ...] | None:
    """Both, each once; None if there are none."""
    return tuple(dict.fromkeys([*(modules or ()), *head])) or None


def saved_names(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The full names of the tensors in these modules."""
    modules = set(ending_in_any((name for name, _ in model.named_modules()), patterns))
    return [name for name in model.state_dict() if within_any(name, modules)]


def train_copies(
    model: nn.Module,
    names: Sequence[str],
    patterns: Sequence[str] = (),
    additions: Sequence[Addition] = (),
) -> None:
    """Freeze the model except for these tensors and `additions`; `lorakit.eject` undoes that.

    Raises TargetError for `patterns` of `modules_to_save` without a match, and for newly
    initialized weights that would not train. The model is then unchanged.
    """
    there = [name for name, _ in model.named_modules() if name]
    endings = sorted({name.rpartition(".")[2] for name in there})
    problems = [
        f"modules_to_save: {pattern!r} matches no module{suggest(pattern, endings)}"
        for pattern, hits in names_by_suffix(there, patterns).items()
        if not hits
    ]
    places = [name.rpartition(".") for name in names]
    slots = tuple((model.get_submodule(owner), leaf) for owner, _, leaf in places)
    problems += group_layers(newly_initialized(model, slots))
    if problems:
        raise TargetError(f"These settings do not fit {type(model).__name__}:", problems)
    install(model, LoraConfig(), Selection((), slots), additions=additions)


def copies(model: nn.Module) -> dict[str, Tensor]:
    """The tensors that are trained in full; raises StateError inside `lorakit.disabled`."""
    require_enabled(model)
    state = model.state_dict(keep_vars=True)
    return {name: state[name] for name in trained_copies.names(model)}
