"""`lorakit.AdapterSet`: any number of adapters on one base, chosen by name, by row, by thread."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from threading import RLock

import torch
from torch import nn

from lorakit.adapters.catalogue import require_known, require_new, require_summable
from lorakit.adapters.entry import Entry, Member
from lorakit.adapters.fresh import fresh
from lorakit.adapters.installation import route, unroute
from lorakit.adapters.loaded import Loaded, Parts, describe
from lorakit.adapters.loading import Loader
from lorakit.adapters.place import Place
from lorakit.adapters.routing import BASE, One, Routing, Sum
from lorakit.adapters.saving import bundle_of_member
from lorakit.checkpoint import AdapterBundle, read, write
from lorakit.config import LoraConfig
from lorakit.errors import StateError
from lorakit.layers.stand_in import Own
from lorakit.methods.applied import require_plain
from lorakit.surgery.wrappers import unwrapped
from lorakit.variants import ModuleAdapter, Site

Put = Callable[[Place, ModuleAdapter | None, Own], Entry]
"""How a place stores its part of an adapter."""


class AdapterSet:
    """Many adapters on one model, each by its name.

    The model stays what it is: parameters, names and state_dict are the base's, and a module asks
    the set at each forward which adapter to compute with. `activate` chooses one for all threads;
    `rows` chooses one for each row of a batch, in the thread or asyncio task that enters it. An
    adapter may have any rank, variant, targets and file format, and heads and biases of its own.

    `model` is a plain model, in a wrapper of torch.compile or none. Raises StateError if it is
    adapted, prepared for a method, has PEFT's modules or another set.

    >>> import torch
    >>> model = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    >>> adapters = AdapterSet(model)
    >>> adapters.list()
    []
    """

    def __init__(self, model: nn.Module) -> None:
        self.model = unwrapped(model)
        require_plain(self.model)
        self._loader = Loader(self.model)
        self._routing = Routing()
        self._places: dict[str, Place] = {}
        self._members: dict[str, Member] = {}
        self._gone: list[Member] = []
        """Unloaded adapters, whose slots the next one may take."""
        self._frozen: list[nn.Parameter] = []
        self._lock = RLock()
        """Held while names come and go; forwards need none."""
        self._closed = False

    # --- adapters in and out

    def load(
        self,
        name: str,
        source: str | Path,
        lora_alpha: float | None = None,
        *,
        revision: str | None = None,
        check_base: bool = True,
    ) -> Loaded:
        """Load the adapter in `source` for inference, under this `name`.

        `source`, `lora_alpha`, `revision` and `check_base` are those of `lorakit.load_adapter`,
        which is as strict.

        Raises StateError for a name that is taken; FormatError, MissingAlphaError and MismatchError
        as `load_adapter`, and TargetError for tensors that cannot differ by row. Nothing has
        changed then.
        """
        self._require_open()
        require_new(name, self._members)
        return self.load_bundle(name, read(source, lora_alpha, revision), str(source), check_base)

    def load_bundle(
        self, name: str, bundle: AdapterBundle, origin: str, check_base: bool = True
    ) -> Loaded:
        """`load` of an adapter that was read already; `origin` is what messages call it.

        Raises as `load` does for an adapter that does not fit.
        """
        self._require_open()
        with self._lock:
            require_new(name, self._members)
            loaded, parts = self._loader.fitted(name, bundle, origin, check_base)
            self._store(loaded, parts, Place.put)
        return loaded

    def add(self, name: str, config: LoraConfig) -> Loaded:
        """Add a new adapter under this `name`, to be trained: what `config` selects, as `inject`.

        Its Parameters are the set's, `parameters(name)`, and so are the copies of modules_to_save,
        such as a head; the base's no longer require gradients until `close`. Other rows of a batch
        may have other adapters, which then do not change.

        Raises StateError for a name that is taken, TargetError as `inject` and for modules that are
        one for all rows, and ConfigError for biases and rows of tokens, which a set does not train.
        """
        self._require_open()
        with self._lock:
            require_new(name, self._members)
            parts = fresh(self.model, config)
            loaded = describe(name, None, config, parts)
            self._freeze()
            self._store(loaded, parts, Place.put_training)
        return loaded

    def named_parameters(self, name: str) -> Iterator[tuple[str, nn.Parameter]]:
        """(name in an adapted model's state_dict, Parameter) of the adapter `name` that trains."""
        require_known([name], self._members)
        for place in self._places_of(self._members[name]):
            entry = self._members[name].entries[place]
            value = entry.value()
            tensors = {**(value.tensors if value is not None else {}), **entry.own_tensors()}
            for leaf, tensor in tensors.items():
                if isinstance(tensor, nn.Parameter):
                    yield f"{place.name}.{leaf}", tensor

    def parameters(self, name: str) -> Iterator[nn.Parameter]:
        """The Parameters of the adapter called `name`, for an optimizer; none if it was loaded."""
        return (parameter for _, parameter in self.named_parameters(name))

    def save(self, name: str, path: str | Path) -> Path:
        """Save the adapter called `name` in the directory `path`, as `lorakit.save_adapter` does.

        Raises StateError for an unknown name, and SaveError as `save_adapter`.
        """
        self._require_open()
        require_known([name], self._members)
        member = self._members[name]
        places = self._places_of(member)
        return write(bundle_of_member(self.model, member, member.loaded.config, places), path)

    def _store(self, loaded: Loaded, parts: Parts, put: Put) -> None:
        """Give each module its part; all or none."""
        while self._gone:
            self._gone.pop().free()
        member = Member(loaded)
        try:
            with torch.inference_mode(False), torch.no_grad():
                for module, (value, own) in parts.items():
                    place = self._place(module, value.site if value is not None else None)
                    member.entries[place] = put(place, value, own)
        except BaseException:
            member.free()
            raise
        self._members[loaded.name] = member

    def _place(self, module: str, site: Site | None) -> Place:
        """The place of a module, which asks this set from now on."""
        place = self._places.get(module)
        if place is None:
            place = self._places[module] = route(self.model, module, self._routing, site)
        return place

    def _places_of(self, member: Member) -> Iterator[Place]:
        """The places where this adapter has something, in the order of its modules."""
        return map(self._places.__getitem__, member.loaded.modules)

    def _freeze(self) -> None:
        """Let the base require no gradients, until `close`."""
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.requires_grad_(False)
                self._frozen.append(parameter)

    def unload(self, name: str) -> None:
        """Forget the adapter called `name`.

        Raises StateError for an unknown name, and for one that is active or in use by `rows`.
        """
        self._require_open()
        with self._lock:
            require_known([name], self._members)
            member = self._members[name]
            if member.users:
                raise StateError(f"The adapter {name!r} is in use by rows(); leave it first.")
            if name in self._routing.default.weights:
                raise StateError(f"The adapter {name!r} is active; call deactivate() first.")
            self._routing.forget_plans()
            self._gone.append(self._members.pop(name))

    def close(self) -> None:
        """Give the model back as it was, and forget all adapters; again it does nothing."""
        self._routing.default = BASE
        for place in self._places.values():
            unroute(place)
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._places, self._members, self._gone, self._frozen = {}, {}, [], []
        self._closed = True

    # --- which one runs

    def activate(self, name: str | Mapping[str, float]) -> None:
        """Choose the adapter called `name` in all threads, where `rows` does not choose.

        A mapping from names to weights chooses the weighted sum of their updates.

        Raises StateError that lists every unknown name, and every adapter that cannot be added up:
        those of DoRA, with heads or biases, or that train.
        """
        self._require_open()
        weights = {name: 1.0} if isinstance(name, str) else name
        require_known(weights, self._members)
        members = {self._members[each]: weight for each, weight in weights.items()}
        if list(weights.values()) == [1.0]:
            self._routing.default = One(*members)
        else:
            require_summable(weights, self._members)
            self._routing.default = Sum(members) if members else BASE

    def deactivate(self) -> None:
        """Choose the base: every forward that `rows` does not rule computes without an adapter."""
        self._routing.default = BASE

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Inside, row n of a batch has the adapter called names[n], or none.

        `names` has an entry for each row. A batch of a multiple of them, such as the beams of
        `generate`, has each row repeated. It holds in this thread or asyncio task alone; a thread
        that is started inside does not inherit it, unless it runs in a copy of the context.

        Raises StateError that lists every unknown name, or for no names at all; and so does a
        forward for another number of rows.
        """
        self._require_open()
        if len(names) == 0:
            raise StateError(
                "rows() names no adapters; name one, or None, for each row of a batch."
            )
        with self._lock:
            require_known(names, self._members)
            members = [None if name is None else self._members[name] for name in names]
            used = {member for member in members if member is not None}
            for member in used:
                member.users += 1
            choice = self._routing.rows(members)
        try:
            with self._routing.held(choice):
                yield
        finally:
            with self._lock:
                for member in used:
                    member.users -= 1

    def context_fn(self) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        """The argument of this name of `torch.utils.checkpoint.checkpoint(use_reentrant=False)`.

        With it a recomputed forward has the rows of the first, wherever backward is called. Without
        it a layer that is recomputed raises StateError, once `rows` was used.

        transformers takes it in its `gradient_checkpointing_kwargs`.
        """
        return nullcontext(), self._routing.carried()

    @property
    def active(self) -> dict[str, float]:
        """What `activate` has chosen: weights by name, one of 1.0 or none for the base."""
        return dict(self._routing.default.weights)

    def list(self) -> list[Loaded]:
        """What each adapter is, in the order in which they came."""
        return [member.loaded for member in self._members.values()]

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("This AdapterSet is closed; make another one of the model.")
