"""The interface of a method of fine-tuning, which prepares, saves and loads a model.

A method is a stateless strategy. Recipes refer to it by its name, comparisons show its title; it
prepares a model in place, returns what is trained as an `AdapterBundle`, and loads such a bundle,
strictly. What it has done to a model is recorded on the model, so one value serves all models.
`registry.METHODS` is the table of the methods; no other code compares their names.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from types import MappingProxyType
from typing import Any, Generic, TypeVar

from torch import nn

from lorakit.checkpoint import AdapterBundle
from lorakit.errors import ConfigError, MismatchError
from lorakit.injection.inspection.report import Report
from lorakit.injection.modes import MergeReport
from lorakit.injection.transfer.loading import LoadReport

Config = TypeVar("Config")
_MOST_RATE = 0.1


class Method(ABC, Generic[Config]):
    """One way of fine-tuning a model."""

    name: str
    """Its name in recipes and files; its settings are in the recipe's section of this name."""
    title: str
    """Its name in comparisons."""
    config_type: type[Config]
    """A frozen dataclass that validates itself; each field has a default here or in `defaults`."""
    defaults: Mapping[str, Any] = MappingProxyType({})
    """Defaults in recipes, and settings that a recipe always shows."""
    rate: float = 0.4
    """Times 1 / the base's width: the learning rate of a recipe that names none. Adam's steps are
    of one size for every weight, and a wider model sums more of them in a layer's output; so the
    rate that moves the output alike falls with the width (arXiv 2203.03466, table 3)."""
    has_plain_form: bool = True
    """Whether a plain model can hold what it learns: whether `fold` is possible at all."""
    position_settings: Sequence[str] = ()
    """Settings that say how many positions of the base it takes from the texts."""
    has_adapters: bool = False
    """Whether it makes adapters that can start from those of another run (`init_adapter`)."""

    def default_config(self) -> Config:
        """The config of a recipe without settings."""
        return self.config_type(**self.defaults)

    def learning_rate(self, width: int) -> float:
        """The default for a base of this width."""
        return min(_MOST_RATE, self.rate / width)

    @abstractmethod
    def apply(self, model: nn.Module, config: Config, head: Sequence[str] = ()) -> Report:
        """Prepare an unmodified model in place: only what the method trains requires gradients.

        `head` names modules that are new for the task and are trained in any case.

        Raises StateError for a model that is already prepared, ConfigError and TargetError for a
        config that does not fit it. The model is then unchanged.
        """

    @abstractmethod
    def undo(self, model: nn.Module) -> None:
        """Restore the model to before `apply`, bit for bit; raises StateError if it cannot."""

    @abstractmethod
    def is_applied(self, model: nn.Module) -> bool:
        """Whether this method prepared the model."""

    @abstractmethod
    def bundle(self, model: nn.Module) -> AdapterBundle:
        """What is trained, with its metadata; the tensors are the model's own.

        Raises StateError if the method did not prepare the model.
        """

    @abstractmethod
    def load(
        self, model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> LoadReport:
        """Load a bundle into an unmodified model, or into one that is already prepared.

        Raises MismatchError that lists every unexpected key, every missing key, size mismatches,
        another method, and other base weights unless `check_base` is False. Nothing has changed
        then. `origin` names the bundle in errors.
        """

    @abstractmethod
    def inference(self, model: nn.Module) -> AbstractContextManager[Any]:
        """The context in which inference is fastest."""

    @abstractmethod
    def fold(self, model: nn.Module) -> MergeReport:
        """Merge what was learned into a plain model; this cannot be undone.

        Raises TargetError that lists what cannot be merged.
        """

    def finish(self, model: nn.Module) -> None:
        """Leave what is used of what was trained, at the end of a training.

        The model computes the same. Raises StateError if the method did not prepare it.
        """

    def extra_positions(self, settings: Mapping[str, Any]) -> int:
        """How many positions of the base it takes from the texts, by its settings in recipes."""
        return sum(int(settings[name]) for name in self.position_settings)

    def require_room(self, settings: Mapping[str, Any], positions: int, least: int = 1) -> None:
        """Raise ConfigError if it leaves fewer than `least` of the base's positions to a text."""
        taken = self.extra_positions(settings)
        if not taken or taken + least <= positions:
            return
        said = " and ".join(f"{self.name}.{n} is {settings[n]}" for n in self.position_settings)
        most = max(0, positions - least)
        raise ConfigError(
            f"{said}: they take {taken} of the {positions} positions that the base has, and a text "
            f"needs at least {least}; set them to {most} or less together, or use another base."
        )

    def require_own(self, bundle: AdapterBundle, origin: str) -> None:
        """Raise MismatchError for a bundle of another method."""
        if bundle.method != self.name:
            raise MismatchError(
                f"{origin} was trained with the method {bundle.method}, not with {self.name}."
            )
