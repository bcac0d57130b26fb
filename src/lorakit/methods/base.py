"""What a method of fine-tuning is: a value without state that prepares, saves and loads a model.

A method is a strategy. Recipes know it by its name, comparisons by its title; it prepares a plain
model in place, says what of it trains as an `AdapterBundle`, and puts a bundle of its own back onto
a model, strictly. What it has done to a model stands on the model, so the value itself can be
shared by all of them. `registry.METHODS` is the table of the methods; nobody asks for a name.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import MismatchError
from lorakit.injection.inspection.report import Report
from lorakit.injection.modes import MergeReport
from lorakit.injection.transfer.loading import LoadReport

Config = TypeVar("Config")


class Method(ABC, Generic[Config]):
    """One way of fine-tuning a model."""

    name: str
    """What recipes and files call it; its settings stand in a recipe's section of this name."""
    title: str
    """What people call it, in comparisons."""
    config_class: type[Config]
    """A frozen dataclass that checks itself; each field has a default here or in `defaults`."""
    defaults: Mapping[str, Any] = MappingProxyType({})
    """Where a recipe's settings start, and what it always spells out."""
    has_adapters: bool = False
    """Whether it makes adapters that can start from those of another run (`init_adapter`)."""

    def default_config(self) -> Config:
        """What a recipe without settings means."""
        return self.config_class(**self.defaults)

    @abstractmethod
    def apply(self, model: nn.Module, config: Config, head: Sequence[str] = ()) -> Report:
        """Prepare a plain model in place: what the method trains requires gradients, and no more.

        `head` are modules that are new for the task and train in any case.

        Raises StateError for a model that is prepared already, ConfigError and TargetError for a
        config that does not fit it. The model is then as it was.
        """

    @abstractmethod
    def undo(self, model: nn.Module) -> None:
        """The model as it was before `apply`, bit for bit; raises StateError if that is gone."""

    @abstractmethod
    def is_applied(self, model: nn.Module) -> bool:
        """Whether this method prepared the model."""

    @abstractmethod
    def bundle(self, model: nn.Module) -> AdapterBundle:
        """What trains, and what it is; the tensors are the model's own.

        Raises StateError if the method did not prepare the model.
        """

    @abstractmethod
    def load(
        self, model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> LoadReport:
        """Put a bundle onto a plain model, or over what trains in one that is prepared so already.

        Raises MismatchError that lists every tensor without a place, every place without a tensor,
        wrong shapes, another method, and another base unless `check_base` is False. Nothing has
        changed then. `origin` names the bundle in errors.
        """

    @abstractmethod
    def inference(self, model: nn.Module) -> AbstractContextManager[Any]:
        """The state in which the model computes fastest."""

    @abstractmethod
    def fold(self, model: nn.Module) -> MergeReport:
        """Make what was learned part of a plain model, one way.

        Raises TargetError, by name, for what has no plain form.
        """

    def require_own(self, bundle: AdapterBundle, origin: str) -> None:
        """Raise MismatchError for a bundle of another method."""
        if bundle.method != self.name:
            raise MismatchError(
                f"{origin} was trained with the method {bundle.method}, not with {self.name}."
            )
