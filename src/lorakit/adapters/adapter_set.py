"""`lorakit.AdapterSet`: any number of adapters on one base, chosen by name, by row, by thread."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock

from torch import nn

from lorakit.adapters.catalogue import Loaded, require_known, require_new
from lorakit.adapters.entry import Member
from lorakit.adapters.installation import route, unroute
from lorakit.adapters.loading import fitted
from lorakit.adapters.place import Place
from lorakit.adapters.routing import BASE, One, Routing
from lorakit.checkpoint import read
from lorakit.errors import StateError
from lorakit.methods.applied import require_plain
from lorakit.surgery.wrappers import unwrapped
from lorakit.variants import Site


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
        self._routing = Routing()
        self._places: dict[str, Place] = {}
        self._members: dict[str, Member] = {}
        self._adapters: dict[str, Loaded] = {}
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
        require_new(name, self._adapters)
        bundle = read(source, lora_alpha, revision)
        with self._lock:
            require_new(name, self._adapters)
            adapter = fitted(self.model, name, bundle, str(source), check_base)
            member, moved = Member(name), False
            for module, (value, own) in adapter.parts.items():
                place = self._place(module, value.site if value is not None else None)
                member.entries[place], others_moved = place.put(value, own)
                moved |= others_moved
            if moved:
                self._routing.forget_plans()
            self._members[name], self._adapters[name] = member, adapter.loaded
        return adapter.loaded

    def _place(self, module: str, site: Site | None) -> Place:
        """The place of a module, which asks this set from now on."""
        place = self._places.get(module)
        if place is None:
            place = self._places[module] = route(self.model, module, self._routing, site)
        return place

    def unload(self, name: str) -> None:
        """Forget the adapter called `name`.

        Raises StateError for an unknown name, and for one that is active or in use by `rows`.
        """
        self._require_open()
        require_known([name], self._adapters)
        member = self._members[name]
        if name in self._routing.default.names or member.users:
            where = (
                "active; call deactivate()" if not member.users else "in use by rows(); leave it"
            )
            raise StateError(f"The adapter {name!r} is {where} first.")
        self._routing.forget_plans()
        for entry in member.entries.values():
            entry.free()
        del self._members[name], self._adapters[name]

    def close(self) -> None:
        """Give the model back as it was, and forget all adapters; again it does nothing."""
        self._routing.default = BASE
        for place in self._places.values():
            unroute(place)
        self._places, self._members, self._adapters = {}, {}, {}
        self._closed = True

    # --- which one runs

    def activate(self, name: str) -> None:
        """Choose the adapter called `name` in all threads, where `rows` does not choose.

        Raises StateError for an unknown name.
        """
        self._require_open()
        require_known([name], self._adapters)
        self._routing.default = One(self._members[name])

    def deactivate(self) -> None:
        """Choose the base: every forward that `rows` does not rule computes without an adapter."""
        self._routing.default = BASE

    @contextmanager
    def rows(self, names: Sequence[str | None]) -> Iterator[None]:
        """Inside, row n of a batch has the adapter called names[n], or none.

        `names` has an entry for each row. A batch of a multiple of them, such as the beams of
        `generate`, has each row repeated. It holds in this thread or asyncio task alone; a thread
        that is started inside does not inherit it, unless it runs in a copy of the context.

        Raises StateError that lists every unknown name, and a forward for another number of rows.
        """
        self._require_open()
        with self._lock:
            require_known(names, self._adapters)
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

    @property
    def active(self) -> str | None:
        """The name of the adapter that `activate` has chosen; None for the base."""
        return next(iter(self._routing.default.names), None)

    def list(self) -> list[Loaded]:
        """What each adapter is, in the order in which they came."""
        return [*self._adapters.values()]

    def _require_open(self) -> None:
        if self._closed:
            raise StateError("This AdapterSet is closed; make another one of the model.")
