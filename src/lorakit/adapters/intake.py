"""How adapters come into a set: matched with the model, packed, and asked for by its modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import nn

from lorakit.adapters.budget import Budget
from lorakit.adapters.catalogue import require_new
from lorakit.adapters.entry import Parts
from lorakit.adapters.fresh import fresh
from lorakit.adapters.installation import route, unroute
from lorakit.adapters.loaded import Loaded, describe
from lorakit.adapters.loading import Loader
from lorakit.adapters.member import Member, member_of
from lorakit.adapters.origin import Origin, Reading, origin_of, read_again
from lorakit.adapters.place import Place
from lorakit.adapters.routing import Routing
from lorakit.adapters.shared import parts_of
from lorakit.adapters.slab import Slab
from lorakit.adapters.store import Store
from lorakit.checkpoint import AdapterBundle
from lorakit.checkpoint.checksum import checked_beside
from lorakit.config import LoraConfig


class Matched(NamedTuple):
    """An adapter that is not yet in the set."""

    loaded: Loaded
    parts: Parts
    slab: Slab


class Intake:
    """What a set did to its model, and the store that it fills."""

    def __init__(self, model: nn.Module, routing: Routing, budget: Budget) -> None:
        self._model, self._routing = model, routing
        self._loader = Loader(model, lambda: routing.changes)
        self._places: dict[str, Place] = {}
        self._frozen: list[nn.Parameter] = []
        self.store = Store(routing, budget, self._fetch, self._device_of)

    def matched(self, name: str, bundle: AdapterBundle, source: str, check_base: bool) -> Matched:
        """What each module gets of a bundle; neither the model nor the store is changed."""
        with self.store.changed:
            loaded, parts = self._loader.fitted(name, bundle, source, check_base)
        with torch.inference_mode(False), torch.no_grad():
            return Matched(loaded, parts, Slab.packed(parts, self._device_of))

    def load(self, name: str, source: str, reading: Reading) -> Loaded:
        """Take in what is read so; `source` names it in messages."""
        with checked_beside():
            bundle = reading.bundle()
            matched = self.matched(name, reading.renamed(bundle), source, reading.check_base)
        return self.keep(matched, origin_of(reading, bundle) if self.store.is_limited else None)

    def keep(self, matched: Matched, origin: Origin | None = None) -> Loaded:
        """Take in what is matched; without an `origin` it cannot be read again."""
        loaded, parts, slab = matched
        with self.store.changed:
            require_new(loaded.name, self.store.members)
            self.store.require_fits(loaded)
            for module, entry in parts.items():
                if module not in self._places:
                    site = entry.adapter.site if entry.adapter is not None else None
                    self._places[module] = route(self._model, module, self._routing, site)
            found = [(module, self._places[module].mixed_up) for module in parts]
            mixed_up = [(module, why) for module, why in found if why is not None]
            self.store.add(member_of(loaded, parts, origin, mixed_up), slab)
        return loaded

    def add(self, name: str, config: LoraConfig) -> Loaded:
        """Take in a new adapter, which trains."""
        return self._train(name, config, lambda: fresh(self._model, config))

    def share(self, name: str, source: nn.Module, config: LoraConfig) -> Loaded:
        """Take in the adapter of another model, which trains."""
        return self._train(name, config, lambda: parts_of(source, self._model))

    def _train(self, name: str, config: LoraConfig, find: Callable[[], Parts]) -> Loaded:
        with self.store.changed:
            require_new(name, self.store.members)
            parts = find()
            made = Matched(describe(name, None, config, parts), parts, Slab(parts))
            loaded = self.keep(made)
            self._freeze()
            self._routing.trains = True
        return loaded

    def close(self) -> None:
        """Give the model back, and forget all adapters."""
        for place in self._places.values():
            unroute(place)
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self.store.clear()

    def _device_of(self, name: str) -> torch.device:
        place = self._places.get(name)
        module = self._model.get_submodule(name) if place is None else place.module
        return next(p.device for p in module._parameters.values() if p is not None)

    def _fetch(self, member: Member) -> Slab:
        """What is in the file of an adapter that is in no memory."""
        loaded, origin = member.loaded, member.origin
        assert origin is not None
        with checked_beside():
            bundle = read_again(loaded, origin)
            check_base = origin.reading.check_base
            return self.matched(loaded.name, bundle, str(loaded.source), check_base).slab

    def _freeze(self) -> None:
        """Let the base require no gradients, until `close`."""
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
