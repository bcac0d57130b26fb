"""Additive methods, which train modules that the model has not: bottleneck adapters, prefixes.

A subclass says which module is added to which of the model's, and which mixin calls it
(`surgery.additions`).
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import nn

from lorakit.errors import TargetError
from lorakit.injection.modes import MergeReport
from lorakit.methods.frozen_backbone import FrozenBackbone
from lorakit.methods.saved_modules import AnyConfig, saved_names, train_copies
from lorakit.surgery.additions import Addition


class Additive(FrozenBackbone[AnyConfig]):
    """A method that adds modules; they are computed beside the weights, so nothing is merged."""

    has_plain_form = False

    @abstractmethod
    def additions(self, model: nn.Module, config: AnyConfig) -> Sequence[Addition]:
        """What to add, with its initial values, in float32 and on the device of its owner.

        The model is not changed. Raises TargetError where it has no place for it.
        """

    def prepare(self, model: nn.Module, config: AnyConfig) -> None:
        modules = self.heads(config)
        additions = self.additions(model, config)
        train_copies(model, saved_names(model, modules), modules, additions)

    def fold(self, model: nn.Module) -> MergeReport:
        self.require_applied(model)
        raise TargetError(
            f"The method {self.name} has no plain form: it adds modules to the model, which no "
            "weight can hold. Use the adapter on its base in place of a merged model."
        )
