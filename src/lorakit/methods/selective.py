"""Selective methods, which train some of the model's own tensors and freeze the others.

For instance a head alone, biases (BitFit, arXiv 2106.10199), the last layers. A subclass only names
its tensors.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import nn

from lorakit.errors import ConfigError
from lorakit.methods.frozen_backbone import FrozenBackbone
from lorakit.methods.saved_modules import AnyConfig, saved_names, train_copies


class Selective(FrozenBackbone[AnyConfig]):
    """A method that names the tensors it trains."""

    needs: str
    """What a model must have for it, for the error message: "a head"."""

    @abstractmethod
    def names(self, model: nn.Module, config: AnyConfig) -> Sequence[str]:
        """The full names of the tensors to train, apart from those of `modules_to_save`."""

    def prepare(self, model: nn.Module, config: AnyConfig) -> None:
        modules = self.heads(config)
        chosen = self.names(model, config)
        if not chosen:
            raise ConfigError(
                f"method: {self.name} needs {self.needs}, but {type(model).__name__} has none."
            )
        names = dict.fromkeys([*chosen, *saved_names(model, modules)])
        train_copies(model, list(names), modules)
