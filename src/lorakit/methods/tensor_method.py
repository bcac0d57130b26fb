"""Methods that train plain tensors, identified by their names in the prepared model.

That is every method but LoRA, whose A and B only have a meaning together and with their scaling. A
subclass defines how a model is prepared and which tensors are then trained; saving and loading
follow from that. To load a file, the model is prepared with the file's config, and the trained
tensors are compared with those in the file, in both directions; if they differ, the preparation is
undone.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from typing import Any

from torch import Tensor, nn

from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.fingerprint import compare, fingerprint
from lorakit.errors import FormatError, LorakitError, MismatchError, StateError
from lorakit.injection.inspection.health import mark_training_start
from lorakit.injection.inspection.report import Report, describe, factor_names
from lorakit.injection.transfer.base_facts import base_facts
from lorakit.injection.transfer.loading import LoadReport, another_base, fill
from lorakit.injection.transfer.placement import place
from lorakit.injection.transfer.untying import require_apart, trained_as_one
from lorakit.layer_groups import group_layers
from lorakit.methods.applied import Applied, applied_to, forget, remember, require_plain
from lorakit.methods.base import Config, Method
from lorakit.methods.saved_modules import saved_names
from lorakit.surgery.wrappers import unwrapped


class TensorMethod(Method[Config]):
    """A method that trains a set of named tensors."""

    @abstractmethod
    def with_head(self, config: Config, head: Sequence[str]) -> Config:
        """The config with these modules trained as well."""

    @abstractmethod
    def heads(self, config: Config) -> Sequence[str]:
        """The modules that `with_head` and the settings have added, by name or dotted suffix."""

    @abstractmethod
    def prepare(self, model: nn.Module, config: Config) -> None:
        """Make what the method trains require gradients, and nothing else.

        Raises a LorakitError if that is impossible; the model is then unchanged.
        """

    @abstractmethod
    def release(self, model: nn.Module) -> None:
        """Undo `prepare`, apart from requires_grad."""

    @abstractmethod
    def learned(self, model: nn.Module) -> dict[str, Tensor]:
        """What is trained in a prepared model, by name: parameters and persistent buffers."""

    def apply(self, model: nn.Module, config: Config, head: Sequence[str] = ()) -> Report:
        self._apply(model, self.with_head(config, head))
        return self._report(model)

    def _apply(self, model: nn.Module, config: Config) -> None:
        require_plain(model)
        required_grad = {name: p.requires_grad for name, p in model.named_parameters()}
        self.prepare(model, config)
        remember(model, self.name, config, required_grad)
        mark_training_start(model)

    def is_applied(self, model: nn.Module) -> bool:
        note = applied_to(model)
        return note is not None and note.method == self.name

    def require_applied(self, model: nn.Module) -> Applied:
        """The record on the model; raises StateError if this method did not prepare it."""
        note = applied_to(model)
        if note is None or note.method != self.name:
            raise StateError(
                f"This {type(model).__name__} is not prepared for the method {self.name}."
            )
        return note

    def revert(self, model: nn.Module) -> None:
        """Restore the model to before `apply`, apart from values that were written."""
        note = self.require_applied(model)
        self.release(model)
        forget(model, note)

    def bundle(self, model: nn.Module) -> AdapterBundle:
        model = unwrapped(model)
        note = self.require_applied(model)
        require_apart(model)
        learned = {name: tensor.detach() for name, tensor in self.learned(model).items()}
        owners = dict.fromkeys(name.rpartition(".")[0] for name in learned)
        return AdapterBundle(
            trained=learned,
            fingerprint=fingerprint(_frozen(model, learned)) or None,
            method=self.name,
            method_config=_as_json(asdict(note.config)),
            **base_facts(model, list(owners)),
        )

    def load(
        self, model: nn.Module, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> LoadReport:
        self.require_own(bundle, origin)
        model, config = unwrapped(model), self._config_of(bundle, origin)
        plain = not self.is_applied(model)
        problems = self._refusal(model, config) if plain else []
        learned = self.learned(model) if self.is_applied(model) else None
        problems += self._tensor_problems(model, bundle, learned, plain)
        verified = _base_verified(model, bundle, learned)
        if check_base and verified is False:
            problems.append(another_base(bundle))
        if problems:
            if plain and learned is not None:
                self.revert(model)
            raise MismatchError(f"{origin} does not fit this {type(model).__name__}:", problems)
        fill(model, bundle.tensors)
        mark_training_start(model)
        return LoadReport(bundle.format, self._report(model), verified, None)

    def inference(self, model: nn.Module) -> AbstractContextManager[Any]:
        return nullcontext()

    def _refusal(self, model: nn.Module, config: Config) -> list[str]:
        """Prepare an unmodified model; returns the problems if that fails."""
        try:
            self._apply(model, config)
        except LorakitError as error:
            return [*(error.problems or [error.headline])]
        return []

    def _tensor_problems(
        self,
        model: nn.Module,
        bundle: AdapterBundle,
        learned: Mapping[str, Tensor] | None,
        plain: bool,
    ) -> list[str]:
        """Every unexpected key, every missing key, every size mismatch."""
        placement, there = place(model, bundle), bundle.tensors
        found = placement.problems
        if not plain:
            found += trained_as_one(placement.trained, bundle.trained)
        if learned is not None:
            named = {name for name, _ in found}
            found += [
                (name, "is trained in this model, but missing from the file")
                for name in learned
                if name not in there and name not in named
            ]
            found += [
                (
                    name,
                    f"is unexpected: {self.name} does not train it with the file's settings",
                )
                for name in there
                if name not in learned and name not in named
            ]
        return group_layers(found)

    def _config_of(self, bundle: AdapterBundle, origin: str) -> Config:
        try:
            return self.config_type(**bundle.method_config)
        except (LorakitError, TypeError) as error:
            raise FormatError(
                f"{origin} has settings that the method {self.name} does not support: {error}"
            ) from error

    def _report(self, model: nn.Module) -> Report:
        report, learned = describe(model), self.learned(model)
        heads = set(saved_names(model, self.heads(self.require_applied(model).config)))
        sizes = {n: p.numel() for n, p in model.named_parameters() if n in learned}
        counted = heads | report.own.keys() | factor_names(model)
        selected = {n: size for n, size in sizes.items() if n not in counted}
        return replace(
            report,
            adapter_parameters=report.adapter_parameters + sum(selected.values()),
            own=report.own | selected,
            trained={n: size for n, size in sizes.items() if n in heads},
            uncovered={n: size for n, size in report.uncovered.items() if n not in learned},
        )


def _base_verified(
    model: nn.Module, bundle: AdapterBundle, learned: Mapping[str, Tensor] | None
) -> bool | None:
    """Whether the frozen weights are those of the file; None if they cannot be compared."""
    return None if learned is None else compare(bundle.fingerprint, _frozen(model, learned))


def _frozen(model: nn.Module, learned: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The matrices that the method leaves as they are; vectors may be of another type in a run."""
    named = model.named_parameters()
    return {n: p.detach() for n, p in named if n not in learned and p.ndim > 1}


def _as_json(value: Any) -> Any:
    """The value after a round trip through JSON."""
    if isinstance(value, Mapping):
        return {key: _as_json(part) for key, part in value.items()}
    return [_as_json(part) for part in value] if isinstance(value, list | tuple) else value
