"""How adapters come into a set: matched with the model, packed, and asked for by its modules."""

from __future__ import annotations

from collections.abc import Callable

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
from lorakit.adapters.origin import Origin, read_again
from lorakit.adapters.place import Place
from lorakit.adapters.routing import Routing
from lorakit.adapters.shared import parts_of
from lorakit.adapters.slab import Slab
from lorakit.adapters.store import Store
from lorakit.checkpoint import AdapterBundle
from lorakit.config import LoraConfig


class Intake:
    """What a set did to its model, and the store that it fills."""

    def __init__(self, model: nn.Module, routing: Routing, budget: Budget) -> None:
        self._model, self._routing = model, routing
        self._loader = Loader(model)
        self._places: dict[str, Place] = {}
        self._frozen: list[nn.Parameter] = []
        self.store = Store(routing, budget, self._fetch)

    def load(
        self,
        name: str,
        bundle: AdapterBundle,
        source: str,
        check_base: bool,
        origin: Origin | None = None,
    ) -> Loaded:
        """Take in an adapter for inference; without an `origin` it cannot be read again."""
        with self.store.changed:
            require_new(name, self.store.members)
            loaded, parts = self._loader.fitted(name, bundle, source, check_base)
            self._keep(loaded, parts, self._packed(parts), origin)
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
            loaded = describe(name, None, config, parts)
            self._keep(loaded, parts, Slab(parts))
            self._freeze()
        return loaded

    def close(self) -> None:
        """Give the model back, and forget all adapters."""
        for place in self._places.values():
            unroute(place)
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self.store.clear()

    def _keep(self, loaded: Loaded, parts: Parts, slab: Slab, origin: Origin | None = None) -> None:
        self.store.require_fits(loaded)
        for module, entry in parts.items():
            if module not in self._places:
                site = entry.adapter.site if entry.adapter is not None else None
                self._places[module] = route(self._model, module, self._routing, site)
        self.store.add(member_of(loaded, parts, origin), slab)

    def _packed(self, parts: Parts) -> Slab:
        with torch.inference_mode(False), torch.no_grad():
            return Slab.packed(parts, self._device_of)

    def _device_of(self, module: str) -> torch.device:
        return next(self._model.get_submodule(module).parameters()).device

    def _fetch(self, member: Member) -> Slab:
        """What is in the file of an adapter that is in no memory."""
        loaded, origin = member.loaded, member.origin
        assert origin is not None
        bundle = read_again(loaded, origin)
        parts = self._loader.fitted(loaded.name, bundle, str(loaded.source), origin.check_base)[1]
        return self._packed(parts)

    def _freeze(self) -> None:
        """Let the base require no gradients, until `close`."""
        for parameter in self._model.parameters():
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)
