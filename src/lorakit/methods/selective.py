"""Selective methods, which train some of the model's own tensors and freeze the others.

For instance a head alone, biases (BitFit, arXiv 2106.10199), the last layers. A subclass only names
its tensors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor, nn

from lorakit.errors import ConfigError
from lorakit.injection.adaptation import eject
from lorakit.injection.folding import fold
from lorakit.injection.modes import MergeReport
from lorakit.methods.applied import forget
from lorakit.methods.saved_modules import (
    AnyConfig,
    copies,
    saved_names,
    train_copies,
    with_modules,
)
from lorakit.methods.tensor_method import TensorMethod


class Selective(TensorMethod[AnyConfig]):
    """A method that names the tensors it trains."""

    needs: str
    """What a model must have for it, for the error message: "a head"."""

    @abstractmethod
    def names(self, model: nn.Module, config: AnyConfig) -> Sequence[str]:
        """The full names of the tensors to train, apart from those of `modules_to_save`."""

    def with_head(self, config: AnyConfig, head: Sequence[str]) -> AnyConfig:
        return with_modules(config, head)

    def prepare(self, model: nn.Module, config: AnyConfig) -> None:
        modules = config.modules_to_save or ()
        names = list(dict.fromkeys([*self.names(model, config), *saved_names(model, modules)]))
        if not names:
            raise ConfigError(
                f"method: {self.name} needs {self.needs}, but {type(model).__name__} has none."
            )
        train_copies(model, names, modules)

    def release(self, model: nn.Module) -> None:
        eject(model)

    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        return copies(model)

    def undo(self, model: nn.Module) -> None:
        self.revert(model)

    def fold(self, model: nn.Module) -> MergeReport:
        note = self.require_applied(model)
        report = fold(model)
        forget(model, note)
        return report
