"""From a bundle to what each module of a model gets of it, once everything is known to fit.

A bundle that is like one before, in everything but the numbers of A and B, is placed as that one
was: to match names, shapes and base weights takes several times as long as to read the file. One
whose modules have other names here is matched each time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor, nn

from lorakit.adapters.by_row import require_by_row
from lorakit.adapters.entry import Entry, Parts
from lorakit.adapters.loaded import Loaded, describe
from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig
from lorakit.errors import MismatchError
from lorakit.injection.selection.trained_in_full import Slot
from lorakit.injection.transfer.loading import fit
from lorakit.injection.transfer.placement import Placement
from lorakit.layers.conversion import base_weight
from lorakit.layers.weight_mark import WeightMark
from lorakit.variants import AdapterSpec, ModuleAdapter, Site
from lorakit.variants.site import Shape
from lorakit.variants.trainable_tokens import rows_of


class Likeness(NamedTuple):
    """What decides how a bundle without other tensors than A and B fits a model."""

    config: LoraConfig
    targets_stated: bool
    fingerprint: Mapping[str, str] | None
    modules: Mapping[str, tuple[AdapterSpec, Site | None, Mapping[str, Shape]]]


class Known(NamedTuple):
    """How a bundle was placed, and beside which base weights."""

    config: LoraConfig
    base_verified: bool | None
    modules: Mapping[str, tuple[AdapterSpec, Site | None, torch.dtype]]
    beside: Sequence[tuple[nn.Module, WeightMark]]
    """The modules with these base weights."""
    changes: int
    """How many changes the model was said to have had."""

    @property
    def is_valid(self) -> bool:
        """Whether the base weights are still the same."""
        return all(mark.matches(base_weight(module)) for module, mark in self.beside)


COMPARED = 8
"""Of so many base weights, spread over the model, numbers are compared too: each is far from the
next in memory, and to load an adapter is to cost little more than to read its file."""

REMEMBERED = 16
"""How many ways of placing a bundle a set remembers: those that were used last."""


class Loader:
    """Matches bundles with one model.

    `changes` counts what it was told of changes that a look at its weights may not show.
    """

    def __init__(self, model: nn.Module, changes: Callable[[], int]) -> None:
        self._model, self._changes = model, changes
        self._known: list[tuple[Likeness, Known]] = []

    def fitted(
        self, name: str, bundle: AdapterBundle, origin: str, check_base: bool
    ) -> tuple[Loaded, Parts]:
        """What each module gets of a bundle; the model is not changed. `origin` names it in errors.

        Raises MismatchError as `lorakit.load_adapter` does, and TargetError that lists each tensor
        that has no meaning for one row of a batch.
        """
        if bundle.method != "lora":
            raise MismatchError(
                f"{origin} was trained with the method {bundle.method}, and an AdapterSet has LoRA "
                "adapters; load it onto a base of its own with lorakit.load_adapter."
            )
        alike = likeness(bundle)
        known = self._find(alike) if alike is not None else None
        if known is None:
            bundle, placement = fit(self._model, bundle, origin, check_base)
            require_by_row(
                self._model,
                placement.trained,
                placement.adapters,
                f"{origin} trains tensors that cannot differ from row to row, so it cannot be one "
                "of a set; load it onto a base of its own with lorakit.load_adapter:",
            )
            parts = _parts(placement, bundle)
            config, verified = placement.config, placement.base_verified
            if (
                alike is not None
                and verified is not False
                and alike.modules.keys() == placement.adapters.keys()
            ):
                self._remember(alike, self._as_known(placement))
        else:
            parts, config, verified = _placed_as(known, bundle), known.config, known.base_verified
        loaded = describe(name, origin, config, parts)
        unknown = bundle.unknown_settings
        return replace(loaded, base_verified=verified, unknown_settings=unknown), parts

    def _find(self, alike: Likeness) -> Known | None:
        """How a bundle like this was placed, if the base weights are still the same."""
        at = next((n for n, (other, _) in enumerate(self._known) if other == alike), None)
        if at is None:
            return None
        known = self._known.pop(at)[1]
        if known.changes != self._changes() or not known.is_valid:
            return None
        self._remember(alike, known)
        return known

    def _remember(self, alike: Likeness, known: Known) -> None:
        self._known.append((alike, known))
        del self._known[:-REMEMBERED]

    def _as_known(self, placement: Placement) -> Known:
        modules = {}
        for name, adapter in placement.adapters.items():
            master = next(iter(adapter.tensors.values())).dtype
            modules[name] = adapter.spec, adapter.site, master
        beside = [self._model.get_submodule(name) for name in modules]
        compared = {n * len(beside) // COMPARED for n in range(COMPARED)}
        marks = [
            (module, WeightMark.of(base_weight(module), with_numbers=n in compared))
            for n, module in enumerate(beside)
        ]
        return Known(placement.config, placement.base_verified, modules, marks, self._changes())


def likeness(bundle: AdapterBundle) -> Likeness | None:
    """None for a bundle that has to be matched with the model's own tensors or names."""
    if bundle.trained or bundle.spelling is not None or rows_of(bundle.adapters):
        return None
    modules = {n: (a.spec, a.site, a.shapes) for n, a in bundle.adapters.items()}
    return Likeness(bundle.config, bundle.targets_stated, bundle.fingerprint, modules)


def _placed_as(known: Known, bundle: AdapterBundle) -> Parts:
    return {
        name: Entry(ModuleAdapter(spec, _as_kept(bundle.adapters[name].tensors, master), site))
        for name, (spec, site, master) in known.modules.items()
    }


def _as_kept(tensors: Mapping[str, Tensor], master: torch.dtype) -> dict[str, Tensor]:
    kept = {leaf: _kept(leaf, t.dtype, master) for leaf, t in tensors.items()}
    return {
        leaf: t.detach() if t.dtype == kept[leaf] else t.detach().to(kept[leaf])
        for leaf, t in tensors.items()
    }


def _parts(placement: Placement, bundle: AdapterBundle) -> Parts:
    own = _by_module(placement.trained, bundle.trained)
    adapters = {}
    for name, adapter in placement.adapters.items():
        stored = bundle.adapters.get(name, adapter).tensors
        tensors = {x: t.to(_kept(x, stored[x].dtype, t.dtype)) for x, t in adapter.tensors.items()}
        adapters[name] = replace(adapter, tensors=tensors)
    names = dict.fromkeys([*adapters, *own])
    return {name: Entry(adapters.get(name), own.get(name, {})) for name in names}


def _kept(leaf: str, stored: torch.dtype, master: torch.dtype) -> torch.dtype:
    """The type in which a tensor is kept: that of its file for A and B of 16 bits.

    `lorakit.load_adapter` keeps them in one that can train. The numbers are the same, and each
    product has the type of the layer's output either way.
    """
    return stored if leaf in _FACTORS and stored.itemsize == 2 else master


_FACTORS = ("lora_A", "lora_B")


def _by_module(
    places: Mapping[str, Slot], values: Mapping[str, Tensor]
) -> dict[str, dict[str, Tensor]]:
    """Copies of the tensors that are trained in full, as the module holds its own, by module."""
    found: dict[str, dict[str, Tensor]] = {}
    for key, (module, leaf) in places.items():
        here = module._parameters[leaf]
        assert here is not None
        copy = values[key].detach().to(device=here.device, dtype=here.dtype, copy=True)
        found.setdefault(key.rpartition(".")[0], {})[leaf] = copy
    return found
