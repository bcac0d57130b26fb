"""Methods that train some of the model's own tensors and leave the others alone.

The literature calls them selective: a head alone, biases (BitFit, arXiv 2106.10199), the last
layers. A leaf names its tensors; each of them trains as a copy in the original's place, so the
pretrained weights are never written, and `undo` and `lorakit.disabled` have them back.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from torch import Tensor, nn

from lorakit.config import LoraConfig
from lorakit.errors import ConfigError, TargetError, suggest
from lorakit.injection import trained_copies
from lorakit.injection.adaptation import eject, install
from lorakit.injection.folding import fold
from lorakit.injection.modes import MergeReport
from lorakit.injection.selection.architectures import unloaded
from lorakit.injection.selection.matching import Selection
from lorakit.injection.selection.naming import grouped, matches_suffix, within
from lorakit.methods.applied import forget
from lorakit.methods.tensor_method import TensorMethod
from lorakit.surgery.parameters import state_tensors


@dataclass(frozen=True)
class SelectiveConfig:
    """What every selective method can be told."""

    modules_to_save: Sequence[str] | None = None
    """Modules that train in full, by name or dotted suffix; a head that is new for the task is
    always among them."""

    def __post_init__(self) -> None:
        modules = self.modules_to_save
        if modules is not None:
            if isinstance(modules, str) or not all(isinstance(m, str) and m for m in modules):
                raise ConfigError(
                    "Some modules cannot be found:",
                    [f"modules_to_save is {modules!r}; write a list of names"],
                )
            object.__setattr__(self, "modules_to_save", tuple(modules))


SomeConfig = TypeVar("SomeConfig", bound=SelectiveConfig)


class Selective(TensorMethod[SomeConfig]):
    """A method that names what trains."""

    needs: str
    """What a model must have for it, in words: "a head"."""

    @abstractmethod
    def names(self, model: nn.Module, config: SomeConfig) -> Sequence[str]:
        """The full names of the tensors that train, apart from those of `modules_to_save`."""

    def with_head(self, config: SomeConfig, head: Sequence[str]) -> SomeConfig:
        modules = tuple(dict.fromkeys([*(config.modules_to_save or ()), *head]))
        return replace(config, modules_to_save=modules or None)

    def prepare(self, model: nn.Module, config: SomeConfig) -> None:
        modules = _modules(model, config.modules_to_save or ())
        chosen = set(self.names(model, config))
        names = [
            name
            for name in state_tensors(model)
            if name in chosen or any(within(name, module) for module in modules)
        ]
        if not names:
            raise ConfigError(
                f"method: {self.name} needs {self.needs}, and {type(model).__name__} has none."
            )
        _require_found(model, config.modules_to_save or (), names)
        places = [name.rpartition(".") for name in names]
        slots = tuple((model.get_submodule(owner), leaf) for owner, _, leaf in places)
        install(model, LoraConfig(), Selection((), slots))

    def release(self, model: nn.Module) -> None:
        eject(model)

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        copied = set(trained_copies.names(model))
        return {name: tensor for name, tensor in state_tensors(model).items() if name in copied}

    def undo(self, model: nn.Module) -> None:
        self.take_back(model)

    def fold(self, model: nn.Module) -> MergeReport:
        self.require_applied(model)
        report = fold(model)
        forget(model)
        return report


def _modules(model: nn.Module, patterns: Sequence[str]) -> list[str]:
    """The names of the modules that the patterns mean."""
    names = [name for name, _ in model.named_modules() if name]
    return [name for name in names if any(matches_suffix(name, p) for p in patterns)]


def _require_found(model: nn.Module, patterns: Sequence[str], names: Sequence[str]) -> None:
    """Raise TargetError for patterns without a match, and for random weights that stay so."""
    there = [name for name, _ in model.named_modules() if name]
    endings = sorted({name.rpartition(".")[2] for name in there})
    problems = [
        f"modules_to_save: {pattern!r} matches no module{suggest(pattern, endings)}"
        for pattern in patterns
        if not any(matches_suffix(name, pattern) for name in there)
    ]
    text = (
        "was not in the checkpoint, so it is random and would stay so; add its module to "
        "modules_to_save, or load the model without it"
    )
    problems += grouped((name, text) for name in unloaded(model) if name not in names)
    if problems:
        raise TargetError(f"These settings do not fit {type(model).__name__}:", problems)
